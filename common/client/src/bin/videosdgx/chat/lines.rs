use std::io::BufRead;

use tokio::sync::mpsc;

/// Lines of standard input, read on a separate thread because reading a terminal cannot be cancelled.
pub(super) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; `None` at the end of the input.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }
}
