//! Telemetry: one trace from a sender's tap to the recipient's acknowledgement.
//!
//! An event's trace is sampled (or not) where it enters, and its W3C `traceparent`
//! (<https://www.w3.org/TR/trace-context/>) goes along: in gRPC messages and in log headers.
//! An event that is not sampled has an empty `traceparent` and costs nothing on its way.

use std::collections::HashMap;

use opentelemetry::{propagation::TextMapPropagator, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

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
