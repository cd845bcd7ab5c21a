//! The wire: what devices, services and the log say, generated from `tandem/<service>/v1/*.proto`.
//!
//! Fields are documented in the `.proto` files with unit and meaning. A change there must not break
//! the wire: `tests/wire.rs` holds every field number that was ever given out.

/// The generated code, one module a package.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    pub mod client {
        pub mod v1 {
            tonic::include_proto!("tandem.client.v1");
        }
    }
    pub mod event {
        pub mod v1 {
            tonic::include_proto!("tandem.event.v1");
        }
    }
    pub mod edge {
        pub mod v1 {
            tonic::include_proto!("tandem.edge.v1");
        }
    }
    pub mod routing {
        pub mod v1 {
            tonic::include_proto!("tandem.routing.v1");
        }
    }
    pub mod history {
        pub mod v1 {
            tonic::include_proto!("tandem.history.v1");
        }
    }
    pub mod presence {
        pub mod v1 {
            tonic::include_proto!("tandem.presence.v1");
        }
    }
    pub mod push {
        pub mod v1 {
            tonic::include_proto!("tandem.push.v1");
        }
    }
    pub mod accounts {
        pub mod v1 {
            tonic::include_proto!("tandem.accounts.v1");
        }
    }
}

pub use generated::{
    accounts::v1 as accounts, client::v1 as client, edge::v1 as edge, event::v1 as event,
    history::v1 as history, presence::v1 as presence, push::v1 as push, routing::v1 as routing,
};

pub mod json;

/// The compiled `FileDescriptorSet` of all packages (for reflection and the JSON mapping).
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tandem.fds"));
