//! The loader's state machine under seeded callers: exactly one answer each, one model at a time, no use without a model.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use videosdgx_model::{
    Freed, LoaderError, State,
    machine::{Action, Event, Machine, Ticket},
};

#[derive(Debug, thiserror::Error)]
#[error("it failed")]
struct Failed;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn failed() -> LoaderError<Failed> {
    LoaderError::Load(std::sync::Arc::new(Failed))
}

fn freed() -> Freed {
    Freed { was_loaded: true, freed_bytes: 1, resident_bytes: 1 }
}

/// The inference thread of the simulation: does one thing after the other.
#[derive(Default)]
struct World {
    work: VecDeque<Action<Failed>>,
    asked: HashMap<Ticket, &'static str>,
    answered: HashSet<Ticket>,
    model: bool,
    running: usize,
}

impl World {
    fn take(&mut self, actions: Vec<Action<Failed>>) {
        for action in actions {
            let (ticket, kinds): (Ticket, &[&str]) = match &action {
                Action::Load | Action::Drop => {
                    self.work.push_back(action);
                    continue;
                }
                Action::Run(ticket) => (*ticket, &["use"]),
                Action::Warm(ticket) => (*ticket, &["warm"]),
                Action::Refuse(ticket, _) => (*ticket, &["use", "warm"]),
                Action::Freed(ticket, _) | Action::Busy(ticket, _) => (*ticket, &["unload", "evict"]),
            };
            assert!(kinds.contains(&self.asked[&ticket]), "{action:?} for {}", self.asked[&ticket]);
            assert!(self.answered.insert(ticket), "answered twice");
            if matches!(action, Action::Run(_)) {
                self.running += 1;
                self.work.push_back(action);
            }
        }
    }
}

#[test]
fn every_caller_is_answered_once_under_any_seed() {
    let seeds = std::env::var("SIMULATION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(256);
    let (mut loads, mut failures, mut drops) = (0, 0, 0);
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut machine = Machine::<Failed>::new(rng.random_bool(0.7).then_some(seconds(30)));
        let mut world = World::default();
        let mut now = Duration::ZERO;
        for step in 0..1_500 {
            let asking = step < 1_200;
            now += Duration::from_millis(rng.random_range(0..4_000));
            let ticket = Ticket(step);
            let ask = if asking { rng.random_range(0..10) } else { 9 };
            let (kind, event) = match ask {
                0 | 1 => ("use", Event::Use(ticket)),
                2 => ("warm", Event::WarmUp(ticket)),
                3 => ("unload", Event::Unload(ticket, now + seconds(rng.random_range(0..10)))),
                4 => ("evict", Event::Evict(ticket)),
                5 => ("", Event::Tick),
                _ => match world.work.pop_front() {
                    None => ("", Event::Tick),
                    Some(Action::Load) => {
                        assert!(!world.model && world.running == 0, "seed {seed}: two models at once");
                        world.model = rng.random_bool(0.7);
                        let event = if world.model { Event::Loaded } else { Event::LoadFailed(failed()) };
                        loads += u64::from(world.model);
                        failures += u64::from(!world.model);
                        ("", event)
                    }
                    Some(Action::Drop) => {
                        assert!(world.model && world.running == 0, "seed {seed}: dropped while in use");
                        world.model = false;
                        drops += 1;
                        ("", Event::Dropped(freed()))
                    }
                    Some(_) => {
                        assert!(world.model, "seed {seed}: a use without a model");
                        world.running -= 1;
                        ("", Event::UseEnded { panicked: rng.random_ratio(1, 50) })
                    }
                },
            };
            if !kind.is_empty() {
                world.asked.insert(ticket, kind);
            }
            world.take(machine.step(now, event));
            let snapshot = machine.snapshot(now);
            match snapshot.state {
                State::Loaded { in_use, .. } => assert_eq!(in_use, world.running, "seed {seed}"),
                _ => assert_eq!(world.running, 0, "seed {seed}: in use while {:?}", snapshot.state),
            }
        }
        assert!(world.work.is_empty(), "seed {seed}: work that never ends");
        let open: Vec<_> =
            world.asked.iter().filter(|(ticket, _)| !world.answered.contains(ticket)).collect();
        assert!(open.is_empty(), "seed {seed}: never answered: {open:?}");
    }
    assert!(loads > 0 && failures > 0 && drops > 0, "{loads} {failures} {drops}");
}

#[test]
fn an_idle_model_is_unloaded_when_its_time_has_come() {
    let mut machine = Machine::<Failed>::new(Some(seconds(30)));
    assert!(matches!(machine.step(seconds(1), Event::Use(Ticket(1)))[..], [Action::Load]));
    assert_eq!(machine.next_tick(), None);
    assert!(matches!(machine.step(seconds(5), Event::Loaded)[..], [Action::Run(Ticket(1))]));
    assert_eq!(machine.next_tick(), None, "not while it is used");
    assert!(machine.step(seconds(100), Event::Tick).is_empty());
    assert!(machine.step(seconds(101), Event::UseEnded { panicked: false }).is_empty());
    assert_eq!(machine.next_tick(), Some(seconds(131)));
    let snapshot = machine.snapshot(seconds(111));
    assert_eq!((snapshot.unloads_in, snapshot.last_load), (Some(seconds(20)), Some(seconds(4))));
    assert!(machine.step(seconds(130), Event::Tick).is_empty());
    assert!(matches!(machine.step(seconds(131), Event::Tick)[..], [Action::Drop]));
}

#[test]
fn without_a_time_it_stays() {
    let mut machine = Machine::<Failed>::new(None);
    machine.step(seconds(0), Event::WarmUp(Ticket(1)));
    assert!(matches!(machine.step(seconds(0), Event::Loaded)[..], [Action::Warm(Ticket(1))]));
    assert_eq!(machine.next_tick(), None);
    assert!(machine.step(seconds(1_000_000), Event::Tick).is_empty());
}

#[test]
fn a_bounded_unload_that_waits_in_vain_lets_the_others_go_on() {
    let mut machine = Machine::<Failed>::new(None);
    machine.step(seconds(0), Event::Use(Ticket(1)));
    machine.step(seconds(0), Event::Loaded);
    assert!(machine.step(seconds(1), Event::Unload(Ticket(2), seconds(11))).is_empty());
    assert!(machine.step(seconds(2), Event::Use(Ticket(3))).is_empty(), "waits behind the unload");
    assert_eq!(machine.next_tick(), Some(seconds(11)));
    let actions = machine.step(seconds(11), Event::Tick);
    assert!(
        matches!(
            &actions[..],
            [Action::Busy(Ticket(2), LoaderError::Busy { in_use: 1, waited }), Action::Run(Ticket(3))]
                if *waited == seconds(10)
        ),
        "{actions:?}"
    );
}

#[test]
fn closing_refuses_who_waits_and_who_comes() {
    let mut machine = Machine::<Failed>::new(None);
    machine.step(seconds(0), Event::Use(Ticket(1)));
    machine.step(seconds(0), Event::WarmUp(Ticket(2)));
    let actions = machine.step(seconds(1), Event::Close);
    assert!(
        matches!(
            &actions[..],
            [Action::Refuse(Ticket(1), LoaderError::Closed), Action::Refuse(Ticket(2), LoaderError::Closed)]
        ),
        "{actions:?}"
    );
    let late = machine.step(seconds(1), Event::Use(Ticket(3)));
    assert!(matches!(&late[..], [Action::Refuse(Ticket(3), LoaderError::Closed)]), "{late:?}");
}
