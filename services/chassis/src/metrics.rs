//! Metrics through one registry. Names are `tandem.<service>.<what>`; units are UCUM (`ms`, `By`, `{event}`).
//! Never a user or a conversation in an attribute.
//!
//! On hot paths make the instrument with its attributes once and keep it: `add` then costs one atomic.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use opentelemetry::{KeyValue, global};

fn attributes(pairs: &[(&'static str, &str)]) -> Vec<KeyValue> {
    pairs
        .iter()
        .map(|(k, v)| KeyValue::new(*k, (*v).to_owned()))
        .collect()
}

/// Counts what only grows, with fixed attributes.
#[derive(Debug, Clone)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// A counter that is exported under `name` with these attributes. The same name with other
    /// attributes is another series of the same metric.
    pub fn new(
        name: &'static str,
        unit: &'static str,
        about: &'static str,
        pairs: &[(&'static str, &str)],
    ) -> Self {
        let value = Arc::new(AtomicU64::new(0));
        let (seen, attributes) = (Arc::clone(&value), attributes(pairs));
        global::meter("tandem")
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |o| o.observe(seen.load(Ordering::Relaxed), &attributes))
            .build();
        Self(value)
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down, with fixed attributes.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// A gauge that is exported under `name` with these attributes.
    pub fn new(
        name: &'static str,
        unit: &'static str,
        about: &'static str,
        pairs: &[(&'static str, &str)],
    ) -> Self {
        let value = Arc::new(AtomicI64::new(0));
        let (seen, attributes) = (Arc::clone(&value), attributes(pairs));
        global::meter("tandem")
            .i64_observable_gauge(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |o| o.observe(seen.load(Ordering::Relaxed), &attributes))
            .build();
        Self(value)
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n` (which may be negative).
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution, with fixed attributes. `record` takes a lock: not for each event of a hot path
/// unless sampled.
#[derive(Debug, Clone)]
pub struct Histogram(opentelemetry::metrics::Histogram<f64>, Arc<Vec<KeyValue>>);

impl Histogram {
    /// A histogram that is exported under `name` with these attributes and bucket bounds.
    pub fn new(
        name: &'static str,
        unit: &'static str,
        about: &'static str,
        bounds: &[f64],
        pairs: &[(&'static str, &str)],
    ) -> Self {
        let histogram = global::meter("tandem")
            .f64_histogram(name)
            .with_unit(unit)
            .with_description(about)
            .with_boundaries(bounds.to_vec())
            .build();
        Self(histogram, Arc::new(attributes(pairs)))
    }

    /// Records a value.
    pub fn record(&self, value: f64) {
        self.0.record(value, &self.1);
    }
}
