//! `metrics`: the daemon's figures.

use clap::Args;

use super::session::{Session, ask};
use super::{DONE, Verdict};
use crate::api::{self, Command};

/// Figures of the daemon, as Prometheus reads them
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm metrics
         p2p-comm config set metrics 127.0.0.1:9464      a daemon serves them from its next start on, at /metrics")]
pub(super) struct Metrics {}

impl Metrics {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let client = session.client().await?;
        let metrics: api::Metrics = ask(&client, Command::Metrics {}).await?;
        session.printer.data(&metrics, || metrics.to_prometheus())?;
        Ok(DONE)
    }
}
