//! What the watch needs of the way to the daemon, so that a test can put something in its place.

use crate::api::{Command, Error, Reply};
use crate::daemon::Line;

/// What answers commands: the daemon at the end of a [`Line`], or what a test puts in its place.
pub(super) trait Ask: Sync {
    fn ask(&self, command: Command) -> impl Future<Output = Result<Reply, Error>> + Send;
}

impl Ask for Line {
    async fn ask(&self, command: Command) -> Result<Reply, Error> {
        // The method of its own, which comes before this one's.
        Line::ask(self, command).await
    }
}
