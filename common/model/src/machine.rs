//! The loader's rules, without threads, clocks or memory.
//!
//! `unloaded → loading → loaded → unloading → unloaded`, and `loading → failed → loading`. Callers are identified by tickets.
//! Each event results in actions, in order, which the loader's threads execute: one model is loaded or dropped at a time, and
//! every ticket is answered exactly once (by [`Action::Run`], [`Action::Refuse`], [`Action::Warm`], [`Action::Freed`] or
//! [`Action::Busy`]).

use std::{collections::VecDeque, error::Error, time::Duration};

use crate::{Freed, LoaderError, Snapshot, State};

/// Identifies a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Debug, Clone)]
pub enum Event<E: Error + 'static> {
    /// A caller wants to use the model.
    Use(Ticket),
    /// A caller wants it loaded.
    WarmUp(Ticket),
    /// A use that was run has ended; `panicked` leaves a model that must not be used again.
    UseEnded {
        /// The use panicked.
        panicked: bool,
    },
    /// The load succeeded.
    Loaded,
    /// The load failed.
    LoadFailed(LoaderError<E>),
    /// A caller wants it unloaded, waiting at most until then for uses to end.
    Unload(Ticket, Duration),
    /// Another loader needs the memory: unload now if idle, otherwise not at all.
    Evict(Ticket),
    /// The model was dropped.
    Dropped(Freed),
    /// Time passed.
    Tick,
    /// The loader is closing.
    Close,
}

/// What the loader must do.
#[derive(Debug, Clone)]
pub enum Action<E: Error + 'static> {
    /// Load the model; then report `Loaded` or `LoadFailed`.
    Load,
    /// Run this use; then report `UseEnded`.
    Run(Ticket),
    /// Drop the model; then report `Dropped`.
    Drop,
    /// Report to a caller of `WarmUp` that the model is loaded.
    Warm(Ticket),
    /// Report to a caller of `Use` or `WarmUp` that the model is not available.
    Refuse(Ticket, LoaderError<E>),
    /// Report to a caller of `Unload` or `Evict` what was freed.
    Freed(Ticket, Freed),
    /// Report to a caller of `Unload` or `Evict` that the model stays.
    Busy(Ticket, LoaderError<E>),
}

#[derive(Debug, Clone)]
enum Phase<E: Error + 'static> {
    Unloaded,
    Loading { since: Duration },
    Loaded { since: Duration, last_used: Duration, in_use: usize, spoiled: bool },
    Unloading { since: Duration },
    Failed { error: LoaderError<E>, at: Duration },
    Closed,
}

#[derive(Debug, Clone, Copy)]
enum Waiting {
    Use(Ticket),
    WarmUp(Ticket),
}

#[derive(Debug, Clone, Copy)]
struct PendingUnload {
    ticket: Ticket,
    asked: Duration,
    deadline: Duration,
}

/// The state machine. All times are durations since one epoch of the caller's, and never go back.
#[derive(Debug, Clone)]
pub struct Machine<E: Error + 'static> {
    auto_unload: Option<Duration>,
    phase: Phase<E>,
    waiting: VecDeque<Waiting>,
    unloads: Vec<PendingUnload>,
    loads: u64,
    last_load: Option<Duration>,
}

impl<E: Error + 'static> Machine<E> {
    /// A machine without a model; `auto_unload` is the idle time after which the model is unloaded.
    #[must_use]
    pub fn new(auto_unload: Option<Duration>) -> Self {
        Self {
            auto_unload,
            phase: Phase::Unloaded,
            waiting: VecDeque::new(),
            unloads: Vec::new(),
            loads: 0,
            last_load: None,
        }
    }

    /// Processes an event and returns what must be done.
    pub fn step(&mut self, now: Duration, event: Event<E>) -> Vec<Action<E>> {
        let mut actions = Vec::new();
        match event {
            Event::Use(ticket) => self.want(now, Waiting::Use(ticket), &mut actions),
            Event::WarmUp(ticket) => self.want(now, Waiting::WarmUp(ticket), &mut actions),
            Event::UseEnded { panicked } => self.use_ended(now, panicked, &mut actions),
            Event::Loaded => self.loaded(now, &mut actions),
            Event::LoadFailed(error) => self.load_failed(now, error, &mut actions),
            Event::Unload(ticket, deadline) => {
                self.unload(now, PendingUnload { ticket, asked: now, deadline }, &mut actions);
            }
            Event::Evict(ticket) => self.evict(now, ticket, &mut actions),
            Event::Dropped(freed) => self.dropped(now, freed, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
            Event::Close => self.close(&mut actions),
        }
        actions
    }

    /// When a `Tick` is next needed.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let deadlines = self.unloads.iter().map(|unload| unload.deadline);
        deadlines.chain(self.idle_until()).min()
    }

    /// When the model was last used, if it is loaded and not in use or waited for.
    #[must_use]
    pub fn idle_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Loaded { last_used, in_use: 0, .. }
                if self.waiting.is_empty() && self.unloads.is_empty() =>
            {
                Some(last_used)
            }
            _ => None,
        }
    }

    /// The state now.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> Snapshot<E> {
        let age = |since: Duration| now.saturating_sub(since);
        let state = match &self.phase {
            Phase::Unloaded | Phase::Closed => State::Unloaded,
            Phase::Loading { since } => State::Loading { elapsed: age(*since) },
            Phase::Loaded { since, last_used, in_use, .. } => State::Loaded {
                loaded_for: age(*since),
                idle_for: if *in_use > 0 { Duration::ZERO } else { age(*last_used) },
                in_use: *in_use,
            },
            Phase::Unloading { since } => State::Unloading { elapsed: age(*since) },
            Phase::Failed { error, at } => State::Failed { error: error.clone(), failed_for: age(*at) },
        };
        Snapshot {
            state,
            loads: self.loads,
            last_load: self.last_load,
            waiting: self.waiting.len() + self.unloads.len(),
            auto_unload: self.auto_unload,
            unloads_in: self.idle_until().map(|until| until.saturating_sub(now)),
        }
    }

    fn idle_until(&self) -> Option<Duration> {
        Some(self.idle_since()?.saturating_add(self.auto_unload?))
    }

    fn want(&mut self, now: Duration, waiting: Waiting, actions: &mut Vec<Action<E>>) {
        match &mut self.phase {
            // Uses that arrive after an unload request wait for it; otherwise unloads would starve.
            Phase::Loaded { spoiled: false, .. } if self.unloads.is_empty() => {
                self.grant(now, waiting, actions)
            }
            Phase::Loaded { .. } | Phase::Loading { .. } | Phase::Unloading { .. } => {
                self.waiting.push_back(waiting);
            }
            Phase::Unloaded | Phase::Failed { .. } => {
                self.waiting.push_back(waiting);
                self.start_load(now, actions);
            }
            Phase::Closed => actions.push(refuse(waiting, LoaderError::Closed)),
        }
    }

    fn grant(&mut self, now: Duration, waiting: Waiting, actions: &mut Vec<Action<E>>) {
        if let Phase::Loaded { in_use, last_used, .. } = &mut self.phase {
            *last_used = now;
            match waiting {
                Waiting::Use(ticket) => {
                    *in_use += 1;
                    actions.push(Action::Run(ticket));
                }
                Waiting::WarmUp(ticket) => actions.push(Action::Warm(ticket)),
            }
        }
    }

    fn start_load(&mut self, now: Duration, actions: &mut Vec<Action<E>>) {
        self.phase = Phase::Loading { since: now };
        actions.push(Action::Load);
    }

    fn start_drop(&mut self, now: Duration, actions: &mut Vec<Action<E>>) {
        self.phase = Phase::Unloading { since: now };
        actions.push(Action::Drop);
    }

    fn loaded(&mut self, now: Duration, actions: &mut Vec<Action<E>>) {
        let Phase::Loading { since } = self.phase else { return };
        self.loads += 1;
        self.last_load = Some(now.saturating_sub(since));
        self.phase = Phase::Loaded { since: now, last_used: now, in_use: 0, spoiled: false };
        self.grant_all(now, actions);
        self.drop_if_asked(now, actions);
    }

    fn grant_all(&mut self, now: Duration, actions: &mut Vec<Action<E>>) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.grant(now, waiting, actions);
        }
    }

    /// Starts the drop that was requested, or that a panic made necessary, when the model is no longer in use.
    fn drop_if_asked(&mut self, now: Duration, actions: &mut Vec<Action<E>>) {
        if let Phase::Loaded { in_use: 0, spoiled, .. } = self.phase
            && (spoiled || !self.unloads.is_empty())
        {
            self.start_drop(now, actions);
        }
    }

    fn load_failed(&mut self, now: Duration, error: LoaderError<E>, actions: &mut Vec<Action<E>>) {
        if !matches!(self.phase, Phase::Loading { .. }) {
            return;
        }
        actions.extend(self.waiting.drain(..).map(|waiting| refuse(waiting, error.clone())));
        actions.extend(self.unloads.drain(..).map(|unload| Action::Freed(unload.ticket, Freed::nothing())));
        self.phase = Phase::Failed { error, at: now };
    }

    fn use_ended(&mut self, now: Duration, panicked: bool, actions: &mut Vec<Action<E>>) {
        if let Phase::Loaded { last_used, in_use, spoiled, .. } = &mut self.phase {
            *last_used = now;
            *in_use = in_use.saturating_sub(1);
            *spoiled |= panicked;
            self.drop_if_asked(now, actions);
        }
    }

    fn unload(&mut self, now: Duration, unload: PendingUnload, actions: &mut Vec<Action<E>>) {
        match self.phase {
            Phase::Unloaded | Phase::Failed { .. } | Phase::Closed => {
                actions.push(Action::Freed(unload.ticket, Freed::nothing()));
            }
            Phase::Loading { .. } | Phase::Loaded { .. } | Phase::Unloading { .. } => {
                self.unloads.push(unload);
                self.drop_if_asked(now, actions);
            }
        }
    }

    fn evict(&mut self, now: Duration, ticket: Ticket, actions: &mut Vec<Action<E>>) {
        if self.idle_since().is_some() {
            self.unload(now, PendingUnload { ticket, asked: now, deadline: Duration::MAX }, actions);
        } else if matches!(self.phase, Phase::Unloaded | Phase::Failed { .. } | Phase::Closed) {
            actions.push(Action::Freed(ticket, Freed::nothing()));
        } else {
            actions.push(Action::Busy(
                ticket,
                LoaderError::Busy { in_use: self.in_use(), waited: Duration::ZERO },
            ));
        }
    }

    fn dropped(&mut self, now: Duration, freed: Freed, actions: &mut Vec<Action<E>>) {
        if !matches!(self.phase, Phase::Unloading { .. }) {
            return;
        }
        actions.extend(self.unloads.drain(..).map(|unload| Action::Freed(unload.ticket, freed)));
        self.phase = Phase::Unloaded;
        if !self.waiting.is_empty() {
            self.start_load(now, actions);
        }
    }

    fn tick(&mut self, now: Duration, actions: &mut Vec<Action<E>>) {
        // A drop in progress cannot be stopped: its callers are answered when it ends.
        if !matches!(self.phase, Phase::Unloading { .. }) {
            let in_use = self.in_use();
            let (late, kept) = self.unloads.drain(..).partition::<Vec<_>, _>(|unload| unload.deadline <= now);
            self.unloads = kept;
            actions.extend(late.into_iter().map(|unload| {
                let waited = now.saturating_sub(unload.asked);
                Action::Busy(unload.ticket, LoaderError::Busy { in_use, waited })
            }));
        }
        if self.unloads.is_empty() && matches!(self.phase, Phase::Loaded { spoiled: false, .. }) {
            self.grant_all(now, actions);
        }
        if self.idle_until().is_some_and(|until| until <= now) {
            self.start_drop(now, actions);
        }
    }

    fn close(&mut self, actions: &mut Vec<Action<E>>) {
        actions.extend(self.waiting.drain(..).map(|waiting| refuse(waiting, LoaderError::Closed)));
        actions.extend(self.unloads.drain(..).map(|unload| Action::Freed(unload.ticket, Freed::nothing())));
        self.phase = Phase::Closed;
    }

    fn in_use(&self) -> usize {
        match self.phase {
            Phase::Loaded { in_use, .. } => in_use,
            _ => 0,
        }
    }
}

fn refuse<E: Error + 'static>(waiting: Waiting, error: LoaderError<E>) -> Action<E> {
    match waiting {
        Waiting::Use(ticket) | Waiting::WarmUp(ticket) => Action::Refuse(ticket, error),
    }
}
