//! The loader with its threads: R13 and what belongs to it.

#![expect(clippy::disallowed_methods, reason = "tests wait on threads of their own")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        mpsc,
    },
    thread::ThreadId,
    time::{Duration, Instant},
};

use futures::{executor::block_on, future::join_all};
use videosdgx_model::{
    Load, LoaderConfig, LoaderError, Memory, MemoryBudget, MemoryProbe, ModelLoader, Snapshot, State,
};

const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
#[error("broken checkpoint")]
struct Broken;

/// A model that knows where it was made and tells when it is dropped.
struct Fake {
    made_on: ThreadId,
    uses: u32,
    memory: Arc<FakeMemory>,
    bytes: u64,
    dropped_on: Arc<Mutex<Vec<ThreadId>>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::SeqCst);
        self.dropped_on.lock().expect("no test panics here").push(std::thread::current().id());
    }
}

/// A machine of 100 bytes.
#[derive(Default)]
struct FakeMemory {
    used: AtomicU64,
}

struct Probe(Arc<FakeMemory>);

impl MemoryProbe for Probe {
    fn memory(&self) -> Option<Memory> {
        Some(Memory { total: 100, available: 100 - self.0.used.load(Ordering::SeqCst) })
    }
}

#[derive(Default)]
struct FakeLoad {
    loads: Arc<AtomicU32>,
    fail_first: AtomicU32,
    gate: Option<Mutex<mpsc::Receiver<()>>>,
    memory: Arc<FakeMemory>,
    bytes: u64,
    peak: u64,
    panics: AtomicBool,
    dropped_on: Arc<Mutex<Vec<ThreadId>>>,
}

impl Load for FakeLoad {
    type Model = Fake;
    type Error = Broken;

    fn declared_peak(&self) -> Result<u64, Broken> {
        Ok(self.peak)
    }

    fn load(&self) -> Result<Fake, Broken> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.lock().expect("no test panics here").recv_timeout(SOON).expect("the test opens the gate");
        }
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a bug in the loading code");
        if self.fail_first.load(Ordering::SeqCst) > 0 {
            self.fail_first.fetch_sub(1, Ordering::SeqCst);
            return Err(Broken);
        }
        self.memory.used.fetch_add(self.bytes, Ordering::SeqCst);
        Ok(Fake {
            made_on: std::thread::current().id(),
            uses: 0,
            memory: Arc::clone(&self.memory),
            bytes: self.bytes,
            dropped_on: Arc::clone(&self.dropped_on),
        })
    }
}

fn loader(load: FakeLoad) -> ModelLoader<FakeLoad> {
    ModelLoader::new(load, LoaderConfig::new("fake")).expect("there are threads")
}

fn until(loader: &ModelLoader<FakeLoad>, holds: impl Fn(&Snapshot<Broken>) -> bool) {
    let begun = Instant::now();
    while !holds(&loader.snapshot()) {
        assert!(begun.elapsed() < SOON, "{:?}", loader.snapshot());
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_loaded_at_start() {
    let loader = loader(FakeLoad::default());
    assert!(matches!(loader.snapshot().state, State::Unloaded));
    assert_eq!(loader.source().loads.load(Ordering::SeqCst), 0);
}

/// R13: 64 first requests at once make exactly one load, and all are answered by the same model on the same thread.
#[test]
fn sixty_four_first_uses_load_once() {
    let (open_gate, gate) = mpsc::channel();
    let loader = loader(FakeLoad { gate: Some(Mutex::new(gate)), ..FakeLoad::default() });
    let uses = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    loader.run_blocking(|model| {
                        model.uses += 1;
                        assert_eq!(model.made_on, std::thread::current().id());
                        model.uses
                    })
                })
            })
            .collect();
        until(&loader, |snapshot| snapshot.waiting == 64);
        assert!(matches!(loader.snapshot().state, State::Loading { .. }));
        open_gate.send(()).unwrap();
        callers.into_iter().map(|caller| caller.join().unwrap().unwrap()).collect::<Vec<u32>>()
    });
    let mut uses = uses;
    uses.sort_unstable();
    assert_eq!(uses, (1..=64).collect::<Vec<u32>>());
    assert_eq!(loader.source().loads.load(Ordering::SeqCst), 1);
    assert_eq!(loader.snapshot().loads, 1);
}

/// A failed load is told to all who wait; the next use tries again.
#[test]
fn a_failed_load_is_told_to_all_and_tried_again() {
    let (open_gate, gate) = mpsc::channel();
    let load =
        FakeLoad { gate: Some(Mutex::new(gate)), fail_first: AtomicU32::new(2), ..FakeLoad::default() };
    let loader = loader(load);
    for failures in 1..=2 {
        let waiting: Vec<_> = (0..10).map(|_| loader.run(|model| model.uses)).collect();
        let warm = loader.warm_up();
        open_gate.send(()).unwrap();
        for answer in block_on(join_all(waiting)) {
            assert!(matches!(answer, Err(LoaderError::Load(_))), "{answer:?}");
        }
        assert!(matches!(block_on(warm), Err(LoaderError::Load(_))));
        assert_eq!(loader.source().loads.load(Ordering::SeqCst), failures);
        assert!(matches!(loader.snapshot().state, State::Failed { .. }));
        let report = loader.snapshot().report(|_| "checkpoint_invalid".to_owned());
        assert_eq!(
            (report.error.as_deref(), report.error_code.as_deref()),
            (Some("broken checkpoint"), Some("checkpoint_invalid"))
        );
    }
    open_gate.send(()).unwrap();
    assert_eq!(loader.run_blocking(|model| model.uses).unwrap(), 0);
}

/// Unloading waits for the use under way, drops on the inference thread, calls the release hook, and the next use loads again.
#[test]
fn unload_waits_for_uses_and_drops_on_the_inference_thread() {
    let load = FakeLoad::default();
    let (loads, dropped_on) = (Arc::clone(&load.loads), Arc::clone(&load.dropped_on));
    let released = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&released);
    let config = LoaderConfig::new("fake").with_release(Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    let loader = ModelLoader::new(load, config).unwrap();
    let (finish, finished) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let using = loader.run(move |model| {
        begin.send(()).unwrap();
        finished.recv_timeout(SOON).unwrap();
        model.made_on
    });
    begun.recv_timeout(SOON).unwrap();
    let busy = block_on(loader.unload(Duration::from_millis(20)));
    assert!(matches!(busy, Err(LoaderError::Busy { in_use: 1, .. })), "{busy:?}");
    let unloading = loader.unload(SOON);
    let after = loader.run(|model| model.made_on);
    assert_eq!(loader.snapshot().waiting, 2);
    finish.send(()).unwrap();
    let thread = block_on(using).unwrap();
    let freed = block_on(unloading).unwrap();
    assert!(freed.was_loaded && freed.resident_bytes > 0);
    assert_eq!(block_on(after).unwrap(), thread);
    assert_eq!(dropped_on.lock().unwrap().as_slice(), [thread]);
    assert_eq!((loads.load(Ordering::SeqCst), released.load(Ordering::SeqCst)), (2, 1));
    block_on(loader.unload(SOON)).unwrap();
    assert!(!block_on(loader.unload(SOON)).unwrap().was_loaded);
}

#[test]
fn the_idle_timer_unloads_by_itself() {
    let config = LoaderConfig::new("fake").with_auto_unload_minutes(0.05 / 60.0);
    let loader = ModelLoader::new(FakeLoad::default(), config).unwrap();
    block_on(loader.warm_up()).unwrap();
    assert!(loader.snapshot().unloads_in.is_some());
    until(&loader, |snapshot| matches!(snapshot.state, State::Unloaded));
    for never in [0.0, -1.0, f64::NAN] {
        assert_eq!(LoaderConfig::new("fake").with_auto_unload_minutes(never).auto_unload, None);
    }
}

/// Code that panics spoils only its own answer and the model, which is loaded afresh; the thread lives on.
#[test]
fn a_panic_costs_the_model_not_the_loader() {
    let load = FakeLoad { panics: AtomicBool::new(true), ..FakeLoad::default() };
    let loader = loader(load);
    let first = loader.run_blocking(|model| model.uses);
    assert!(
        matches!(&first, Err(LoaderError::Panicked(words)) if words.contains("bug in the loading")),
        "{first:?}"
    );
    let used = loader.run_blocking(|_| -> u32 { panic!("a bug in the model") });
    assert!(matches!(&used, Err(LoaderError::Panicked(words)) if words == "a bug in the model"), "{used:?}");
    assert_eq!(loader.run_blocking(|model| model.uses).unwrap(), 0);
    assert_eq!(loader.source().loads.load(Ordering::SeqCst), 3);
}

/// A caller that gave up costs nothing: its work is not run.
#[test]
fn work_of_a_caller_that_left_is_not_run() {
    let (open_gate, gate) = mpsc::channel();
    let loader = loader(FakeLoad { gate: Some(Mutex::new(gate)), ..FakeLoad::default() });
    drop(loader.run(|model| model.uses += 1));
    let counted = loader.run(|model| model.uses);
    open_gate.send(()).unwrap();
    assert_eq!(block_on(counted).unwrap(), 0);
}

#[test]
fn a_closed_loader_answers_and_drops_its_model() {
    let load = FakeLoad::default();
    let dropped = Arc::clone(&load.dropped_on);
    let loader = loader(load);
    block_on(loader.warm_up()).unwrap();
    loader.close();
    assert!(matches!(loader.run_blocking(|model| model.uses), Err(LoaderError::Closed)));
    assert!(matches!(block_on(loader.warm_up()), Err(LoaderError::Closed)));
    let begun = Instant::now();
    while dropped.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < SOON, "the model was kept");
        std::thread::yield_now();
    }
}

/// Two models that do not fit together: the idle one goes, the one in use stays and the load is refused with the numbers.
#[test]
fn idle_models_make_room_and_used_ones_do_not() {
    let memory = Arc::new(FakeMemory::default());
    let budget = Arc::new(MemoryBudget::new(Box::new(Probe(Arc::clone(&memory))), 10));
    let make = |bytes, peak| {
        let load = FakeLoad { memory: Arc::clone(&memory), bytes, peak, ..FakeLoad::default() };
        ModelLoader::new(load, LoaderConfig::new("fake").with_budget(Arc::clone(&budget))).unwrap()
    };
    let (oldest, newer, large, huge) = (make(20, 30), make(20, 30), make(40, 50), make(80, 91));
    block_on(oldest.warm_up()).unwrap();
    block_on(newer.warm_up()).unwrap();
    // 40 taken, 10 + 10 promised, 10 in reserve.
    assert_eq!(budget.available(), 30);
    block_on(large.warm_up()).unwrap();
    assert!(matches!(oldest.snapshot().state, State::Unloaded), "the one that was idle for longest goes");
    assert!(newer.snapshot().is_loaded(), "no more than needed goes");

    let (finish, finished) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let using = newer.run(move |_| {
        begin.send(()).unwrap();
        finished.recv_timeout(SOON).unwrap();
    });
    begun.recv_timeout(SOON).unwrap();
    let refused = block_on(huge.warm_up());
    assert!(
        matches!(refused, Err(LoaderError::InsufficientMemory { needed: 91, available: 60 })),
        "{refused:?}"
    );
    assert!(matches!(large.snapshot().state, State::Unloaded));
    finish.send(()).unwrap();
    block_on(using).unwrap();
    let refused = block_on(huge.warm_up());
    assert!(
        matches!(refused, Err(LoaderError::InsufficientMemory { needed: 91, available: 90 })),
        "{refused:?}"
    );
    block_on(oldest.warm_up()).unwrap();
    assert_eq!(memory.used.load(Ordering::SeqCst), 20);
}

/// R13: eight loaders that fit two at a time, used from many threads and unloaded at random: no deadlock, never too much.
#[test]
fn many_loaders_under_a_small_budget_never_deadlock() {
    let memory = Arc::new(FakeMemory::default());
    let budget = Arc::new(MemoryBudget::new(Box::new(Probe(Arc::clone(&memory))), 0));
    let loaders: Vec<_> = (0..8)
        .map(|_| {
            let load = FakeLoad { memory: Arc::clone(&memory), bytes: 40, peak: 45, ..FakeLoad::default() };
            ModelLoader::new(load, LoaderConfig::new("fake").with_budget(Arc::clone(&budget))).unwrap()
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16_usize)
            .map(|caller| {
                let (loaders, memory) = (&loaders, &memory);
                scope.spawn(move || {
                    let (mut served, mut refused) = (0, 0);
                    for round in 0..40 {
                        let loader = &loaders[(caller * 7 + round * 3) % loaders.len()];
                        match loader.run_blocking(|model| model.bytes) {
                            Ok(bytes) => served += u32::from(bytes == 40),
                            Err(LoaderError::InsufficientMemory { .. }) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                        assert!(memory.used.load(Ordering::SeqCst) <= 80);
                        if round % 10 == 9 {
                            block_on(loader.unload(SOON)).unwrap();
                        }
                    }
                    (served, refused)
                })
            })
            .collect();
        for caller in callers {
            let (more_served, more_refused) = caller.join().unwrap();
            served += more_served;
            refused += more_refused;
        }
    });
    assert_eq!(served + refused, 16 * 40);
    assert!(served > 16 * 10, "{served} served, {refused} refused");
}

/// The neighbour that is asked for memory when nothing here is idle.
#[test]
fn the_shortage_hook_is_asked_last() {
    let memory = Arc::new(FakeMemory::default());
    memory.used.store(70, Ordering::SeqCst);
    let neighbour = Arc::clone(&memory);
    let budget = MemoryBudget::new(Box::new(Probe(Arc::clone(&memory))), 0).with_shortage_hook(Arc::new(
        move |missing| {
            neighbour
                .used
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| used.checked_sub(missing.max(1)))
                .is_ok()
        },
    ));
    let load = FakeLoad { memory: Arc::clone(&memory), bytes: 40, peak: 50, ..FakeLoad::default() };
    let loader = ModelLoader::new(load, LoaderConfig::new("fake").with_budget(Arc::new(budget))).unwrap();
    block_on(loader.warm_up()).unwrap();
    assert_eq!(memory.used.load(Ordering::SeqCst), 50 + 40);
}

/// Panics of the model's own code are caught; another panic of the inference thread is known to the process.
#[test]
fn an_inference_thread_that_panics_is_recorded_for_the_process() {
    let config = LoaderConfig::new("fake").with_release(Arc::new(|| panic!("a bug")));
    let loader = ModelLoader::new(FakeLoad::default(), config).expect("there are threads");
    block_on(loader.warm_up()).expect("it loads");
    let unloading = loader.unload(SOON);
    assert_eq!(block_on(videosdgx_threads::thread_failure()).name, "inference-fake");
    drop(unloading);
}
