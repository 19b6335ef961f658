//! Figures for whoever watches over an agent, and how Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Reply to `metrics`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// In the order of their names.
    pub metrics: Vec<Metric>,
}

/// One figure, or one for each of a few labels. No label holds a word of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// As Prometheus names things: with the unit, counters with `_total`.
    pub name: String,
    /// What it is.
    pub help: String,
    /// What it does.
    pub kind: MetricKind,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Up only, and from zero with each start of the process.
    Counter,
    /// Up and down.
    Gauge,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What it is of.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Metrics {
    /// The text that Prometheus reads (exposition format 0.0.4).
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for Metric { name, help, kind, samples } in &self.metrics {
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for Sample { labels, value } in samples {
                let labels: Vec<_> = labels
                    .iter()
                    .map(|(label, of)| {
                        let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                        format!("{label}=\"{of}\"")
                    })
                    .collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_help_are_escaped_as_the_format_wants_it() {
        let labels =
            BTreeMap::from([("a".to_owned(), "\\ \" \n".to_owned()), ("b".to_owned(), "x".to_owned())]);
        let metric = Metric {
            name: "n_total".into(),
            help: "one\ntwo".into(),
            kind: MetricKind::Counter,
            samples: vec![Sample { labels, value: 1.5 }, Sample { labels: BTreeMap::new(), value: 3.0 }],
        };
        let text = Metrics { metrics: vec![metric] }.to_prometheus();
        let expected = "# HELP n_total one\\ntwo\n# TYPE n_total counter\nn_total{a=\"\\\\ \\\" \\n\",b=\"x\"} 1.5\nn_total 3\n";
        assert_eq!(text, expected);
    }
}
