//! A test program of its own: what it records is a fact of the whole process.

use videosdgx_threads::{failed_thread, spawn_vital, thread_failure};

#[test]
fn the_first_panic_is_known_to_the_process_and_a_return_is_not_one() {
    spawn_vital("done", || {}).expect("a thread").join().expect("no panic");
    assert!(failed_thread().is_none());
    let waiting = std::thread::spawn(|| futures::executor::block_on(thread_failure()).clone());
    let first = spawn_vital("first", || panic!("disk {}", 7)).expect("a thread");
    assert!(first.join().is_err(), "the panic is still seen by who joins");
    let seen = waiting.join().expect("the waiting task is woken");
    assert_eq!((seen.name.as_str(), seen.message.as_str()), ("first", "disk 7"));
    spawn_vital("second", || panic!("later")).expect("a thread").join().expect_err("a panic");
    assert_eq!(failed_thread(), Some(&seen));
    assert_eq!(seen.to_string(), "the thread first has ended after an internal error");
    assert_eq!(futures::executor::block_on(thread_failure()), &seen, "also for who asks afterwards");
}
