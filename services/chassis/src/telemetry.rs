//! Telemetry: one trace from a sender's tap to the recipient's acknowledgement.
//!
//! An event's trace is sampled (or not) where it enters, and its W3C `traceparent`
//! (<https://www.w3.org/TR/trace-context/>) goes along: in gRPC messages and in log headers.
//! An event that is not sampled has an empty `traceparent` and costs nothing on its way.

use std::{collections::HashMap, time::Duration};

use opentelemetry::{
    KeyValue, global,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::{PeriodicReader, SdkMeterProvider},
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use prometheus::{Encoder, TextEncoder};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Section `telemetry` of the config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which log lines: `tracing` filter directives, e.g. `info,tandem_edge=debug`.
    pub log: String,
    /// Log lines for machines (`json`) or for people (`text`).
    pub log_format: LogFormat,
    /// Where to send traces, metrics and logs by OTLP over gRPC, e.g. `http://collector:4317`.
    /// Empty: nowhere. Metrics are at `/metrics` all the same.
    pub otlp_endpoint: String,
    /// Share of events whose way is traced, 0 to 1.
    pub trace_ratio: f64,
    /// How often metrics are sent, in milliseconds.
    pub metrics_interval_ms: u64,
    /// Region, on everything that is sent.
    pub region: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".into(),
            log_format: LogFormat::Json,
            otlp_endpoint: String::new(),
            trace_ratio: 0.01,
            metrics_interval_ms: 15_000,
            region: "local".into(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

impl Config {
    /// Checks the section; the text names the key and the fix.
    pub fn validate(&self) -> Result<(), String> {
        if EnvFilter::try_new(&self.log).is_err() {
            return Err("telemetry.log: write filter directives such as \"info\" or \"info,tandem_edge=debug\"".into());
        }
        if !(0.0..=1.0).contains(&self.trace_ratio) {
            return Err("telemetry.trace_ratio: write a share from 0 to 1".into());
        }
        if self.metrics_interval_ms < 1000 {
            return Err("telemetry.metrics_interval_ms: write at least 1000".into());
        }
        Ok(())
    }
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry: {0}")]
pub struct SetupError(String);

/// What must be flushed at the end, and the metrics as Prometheus reads them.
#[derive(Debug)]
pub struct Telemetry {
    registry: prometheus::Registry,
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Sets up logs, traces and metrics of the process; once, before any instrument is made, within a
    /// tokio runtime. `service` is the OpenTelemetry `service.name`.
    pub fn init(config: &Config, service: &str) -> Result<Self, SetupError> {
        let setup = |e: &dyn std::fmt::Display| SetupError(e.to_string());
        let resource = Resource::builder()
            .with_service_name(service.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("region", config.region.clone()))
            .build();
        let otlp = (!config.otlp_endpoint.is_empty()).then_some(config.otlp_endpoint.as_str());

        let registry = prometheus::Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(|e| setup(&e))?;
        let mut meters = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(prometheus);
        let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
        let mut tracers = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(sampler);
        let mut logs = None;
        if let Some(endpoint) = otlp {
            let exporter = MetricExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|e| setup(&e))?;
            let every = Duration::from_millis(config.metrics_interval_ms);
            meters = meters.with_reader(
                PeriodicReader::builder(exporter)
                    .with_interval(every)
                    .build(),
            );
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|e| setup(&e))?;
            tracers = tracers.with_batch_exporter(exporter);
            let exporter = LogExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|e| setup(&e))?;
            logs = Some(
                SdkLoggerProvider::builder()
                    .with_resource(resource)
                    .with_batch_exporter(exporter)
                    .build(),
            );
        }
        let (meters, tracers) = (meters.build(), tracers.build());
        global::set_meter_provider(meters.clone());
        global::set_text_map_propagator(TraceContextPropagator::new());

        let filter = || EnvFilter::try_new(&config.log).map_err(|e| setup(&e));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match config.log_format {
            LogFormat::Json => lines
                .json()
                .with_span_list(false)
                .with_filter(filter()?)
                .boxed(),
            LogFormat::Text => lines.with_target(false).with_filter(filter()?).boxed(),
        };
        // without a collector spans go nowhere, so none is made
        let spans = otlp.map(|_| {
            tracing_opentelemetry::layer()
                .with_tracer(tracers.tracer("tandem"))
                .with_filter(tracing_subscriber::filter::filter_fn(|m| {
                    m.is_span() && m.target().starts_with("tandem")
                }))
        });
        let bridge = match &logs {
            Some(logs) => Some(OpenTelemetryTracingBridge::new(logs).with_filter(filter()?)),
            None => None,
        };
        tracing_subscriber::registry()
            .with(lines)
            .with(spans)
            .with(bridge)
            .try_init()
            .map_err(|e| setup(&e))?;
        Ok(Self {
            registry,
            meters,
            tracers,
            logs,
        })
    }

    /// The metrics in Prometheus' text format (version 0.0.4).
    pub fn prometheus(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        String::from_utf8(out).unwrap_or_default()
    }

    /// Sends what is still held.
    pub fn shutdown(&self) {
        let _ = self.tracers.shutdown();
        let _ = self.meters.shutdown();
        if let Some(logs) = &self.logs {
            let _ = logs.shutdown();
        }
    }
}

/// Name of the log header that carries the `traceparent`.
pub const TRACEPARENT: &str = "traceparent";

/// A span that continues the trace of `traceparent`; disabled if that is empty.
/// `make` makes it: `child(&tp, || tracing::info_span!("routing.admit"))`.
pub fn child(traceparent: &str, make: impl FnOnce() -> Span) -> Span {
    if traceparent.is_empty() {
        return Span::none();
    }
    let span = make();
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    // a parent that cannot be read begins a trace of its own
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    span
}

/// The `traceparent` by which others continue the trace of `span`; empty if it is not sampled.
pub fn traceparent(span: &Span) -> String {
    if span.is_disabled() {
        return String::new();
    }
    let context = span.context();
    if !context.span().span_context().is_sampled() {
        return String::new();
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT).unwrap_or_default()
}
