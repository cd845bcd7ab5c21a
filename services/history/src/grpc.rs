//! `tandem.history.v1.History`: proto to use cases, errors to statuses.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use tandem_chassis::{Doors, Lifecycle, grpc::status, lifecycle::OnEnd};
use tandem_proto::{
    client::{Heads, Page},
    history::{
        HeadsRequest, LookupRequest, LookupResponse, PageRequest, SyncPart, SyncRequest,
        history_server::History,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    Config, Error,
    places::Places,
    tables::Tables,
    usecase::{
        heads,
        ingest::Copies,
        lookup::Lookups,
        page,
        sync::{self, Sync},
    },
};

/// The service. Made by [`crate::serve`].
pub struct HistoryService {
    pub(crate) doors: Doors,
    pub(crate) tables: Tables,
    pub(crate) places: Arc<Places>,
    pub(crate) copies: Copies,
    pub(crate) config: Config,
    pub(crate) generation: u16,
    pub(crate) lifecycle: Lifecycle,
}

fn refuse(error: &Error) -> Status {
    if error.code().grpc() == tandem_kernel::Code::Internal.grpc() {
        tracing::error!(%error, "request failed");
    }
    status(error.code(), error.to_string())
}

fn user(user: &str) -> Result<&str, Status> {
    if user.is_empty() {
        return Err(refuse(&Error::Invalid("user is missing".into())));
    }
    Ok(user)
}

#[tonic::async_trait]
impl History for HistoryService {
    type SyncStream = BoxStream<'static, Result<SyncPart, Status>>;

    async fn sync(
        &self,
        request: Request<SyncRequest>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let SyncRequest {
            user: who,
            have,
            ends,
            generation,
        } = request.into_inner();
        user(&who)?;
        if generation != u32::from(self.generation) {
            let text = format!("generation is {}, not {generation}", self.generation);
            return Err(refuse(&Error::Invalid(text)));
        }
        let (out, parts) = mpsc::channel(4);
        let sync = Sync {
            user: who,
            have,
            ends,
        };
        let (tables, places) = (self.tables.clone(), Arc::clone(&self.places));
        let run = sync::run(tables, places, self.lifecycle.clone(), sync, out);
        self.lifecycle.spawn("history.sync", OnEnd::Fine, run);
        let parts = ReceiverStream::new(parts).map(|p| p.map_err(|e| refuse(&e)));
        Ok(Response::new(parts.boxed()))
    }

    async fn page(&self, request: Request<PageRequest>) -> Result<Response<Page>, Status> {
        let request = request.into_inner();
        let page = request.page.unwrap_or_default();
        let answer = page::answer(
            &self.tables,
            user(&request.user)?,
            &page,
            self.config.page_limit,
        )
        .await;
        answer.map(Response::new).map_err(|e| refuse(&e))
    }

    async fn heads(&self, request: Request<HeadsRequest>) -> Result<Response<Heads>, Status> {
        let request = request.into_inner();
        let heads = request.heads.unwrap_or_default();
        let answer = heads::answer(&self.tables, user(&request.user)?, &heads).await;
        answer.map(Response::new).map_err(|e| refuse(&e))
    }

    async fn lookup(
        &self,
        request: Request<LookupRequest>,
    ) -> Result<Response<LookupResponse>, Status> {
        let lookups = Lookups {
            tables: self.tables.clone(),
            copies: Arc::clone(&self.copies),
            places: Arc::clone(&self.places),
            config: self.config.clone(),
            now_ms: self.doors.clock.unix().0,
        };
        let answer = lookups.answer(request.get_ref()).await;
        answer.map(Response::new).map_err(|e| refuse(&e))
    }
}
