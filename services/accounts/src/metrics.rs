//! What is counted.

use tandem_chassis::metrics::Counter;

/// The instruments, made once.
pub(crate) struct Metrics {
    pub changes: Counter,
    pub contact_changes: Counter,
    pub resumed: Counter,
    pub parked: Counter,
    pub import_ok: Counter,
    pub import_bad: Counter,
    pub sign_ins: Counter,
    pub created: Counter,
    pub claims_ignored: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let c = |name, unit, about| Counter::new(name, unit, about, &[]);
        let import = |result| {
            let about = "subscribers imported, by result";
            Counter::new(
                "tandem.accounts.imported",
                "{row}",
                about,
                &[("result", result)],
            )
        };
        Self {
            changes: c(
                "tandem.accounts.changes",
                "{change}",
                "account changes published",
            ),
            contact_changes: c(
                "tandem.accounts.contact_changes",
                "{change}",
                "changes of a relation that took effect",
            ),
            resumed: c(
                "tandem.accounts.resumed",
                "{change}",
                "changes that were left half done and driven on",
            ),
            parked: c(
                "tandem.accounts.parked",
                "{record}",
                "records that could not be read, parked",
            ),
            import_ok: import("ok"),
            import_bad: import("refused"),
            sign_ins: c(
                "tandem.accounts.sign_ins",
                "{sign_in}",
                "sessions that signed in",
            ),
            created: c(
                "tandem.accounts.created",
                "{account}",
                "subscribers created",
            ),
            claims_ignored: c(
                "tandem.accounts.claims_ignored",
                "{claim}",
                "phone claims at sign-in that are no number or another subscriber's",
            ),
        }
    }
}
