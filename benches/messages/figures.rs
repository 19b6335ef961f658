//! Figures, and how they are shown.

use serde::{Serialize, Serializer, ser::SerializeMap};

/// Latencies in microseconds.
#[derive(Debug)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
}

impl Spread {
    /// Of samples in nanoseconds; there must be some.
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let at = |part: f64| samples[((samples.len() - 1) as f64 * part).round() as usize] as f64 / 1e3;
        Self { p50: at(0.50), p99: at(0.99) }
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("p50", &self.p50.round())?;
        map.serialize_entry("p99", &self.p99.round())?;
        map.end()
    }
}

/// How many a second, if so many took so many nanoseconds.
pub fn per_second(count: usize, nanoseconds: u64) -> f64 {
    count as f64 / (nanoseconds as f64 / 1e9)
}

/// Rows of a name and up to three figures.
pub struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    pub fn new(title: &str, columns: [&str; 3]) -> Self {
        let [first, second, third] = columns.map(str::to_owned);
        Self { rows: vec![[title.to_owned(), first, second, third]] }
    }

    pub fn spread(&mut self, name: &str, spread: &Spread) {
        let figures = [format!("{:.0}", spread.p50), format!("{:.0}", spread.p99), String::new()];
        self.row(name, figures);
    }

    pub fn rate(&mut self, name: &str, rate: f64) {
        self.row(name, [String::new(), String::new(), format!("{rate:.0}")]);
    }

    pub fn ratio(&mut self, name: &str, ratio: f64) {
        self.row(name, [format!("× {ratio:.1}"), String::new(), String::new()]);
    }

    fn row(&mut self, name: &str, [first, second, third]: [String; 3]) {
        self.rows.push([name.to_owned(), first, second, third]);
    }

    pub fn print(&self) {
        for [name, first, second, third] in &self.rows {
            println!("{name:<48}{first:>10}{second:>10}{third:>12}");
        }
    }
}
