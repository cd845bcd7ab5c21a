//! The gRPC services `Provisioning` and `Accounts`.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, StreamExt, stream};
use tandem_chassis::{
    Lifecycle,
    grpc::{code_of, status},
    lifecycle::OnEnd,
};
use tandem_proto::{
    accounts::{
        Account, ChangeContactRequest, CloseRequest, ConnectRequest, ConnectResponse, FindRequest,
        GetRequest, ImportResult, PushTargetsRequest, PushTargetsResponse, RelationsRequest,
        RelationsResponse, SetPushTokenRequest, SetPushTokenResponse, SignInRequest,
        SignInResponse, UpsertRequest, accounts_server::Accounts,
        import_result::Result as Imported, provisioning_server::Provisioning,
    },
    client::{Contact, Found, Problem},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{error::Error, usecase::Service};

/// Both services. Cheap to clone.
#[derive(Clone)]
pub struct Grpc {
    service: Arc<Service>,
    lifecycle: Lifecycle,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("accounts.Grpc")
    }
}

impl Grpc {
    pub(crate) fn new(service: Arc<Service>, lifecycle: Lifecycle) -> Self {
        Self { service, lifecycle }
    }
}

fn failed(e: &Error) -> Status {
    match e {
        Error::Refused(code, text) => status(*code, text.clone()),
        // what is wrong inside is for the logs
        inside => {
            tracing::warn!(error = %inside, "a call failed");
            status(inside.code(), "accounts cannot do this now")
        }
    }
}

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|e| failed(&e))
}

#[tonic::async_trait]
impl Provisioning for Grpc {
    type ImportStream = ReceiverStream<Result<ImportResult, Status>>;

    async fn upsert(&self, request: Request<UpsertRequest>) -> Result<Response<Account>, Status> {
        answer(self.service.upsert(request.get_ref()).await)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Account>, Status> {
        answer(self.service.get(&request.get_ref().who).await)
    }

    async fn close(&self, request: Request<CloseRequest>) -> Result<Response<Account>, Status> {
        answer(self.service.close(&request.get_ref().user).await)
    }

    async fn connect(
        &self,
        request: Request<ConnectRequest>,
    ) -> Result<Response<ConnectResponse>, Status> {
        let ConnectRequest { a, b } = request.get_ref();
        answer(
            self.service
                .connect(a, b)
                .await
                .map(|()| ConnectResponse {}),
        )
    }

    async fn import(
        &self,
        request: Request<Streaming<UpsertRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let (answers, stream) = mpsc::channel(self.service.config.import_concurrency);
        let service = Arc::clone(&self.service);
        let rows = request.into_inner();
        self.lifecycle.spawn(
            "accounts.import",
            OnEnd::Fine,
            import(service, rows, answers),
        );
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Works on the rows that have come, a group at a time; those of one subscriber in their order.
async fn import(
    service: Arc<Service>,
    rows: Streaming<UpsertRequest>,
    answers: mpsc::Sender<Result<ImportResult, Status>>,
) {
    let at_once = service.config.import_concurrency;
    let mut groups = rows.ready_chunks(at_once);
    let mut index = 0;
    while let Some(group) = groups.next().await {
        let mut by_user: BTreeMap<String, Vec<(u64, UpsertRequest)>> = BTreeMap::new();
        let mut broken = None;
        for row in group {
            match row {
                Ok(row) => {
                    by_user
                        .entry(row.user.to_ascii_lowercase())
                        .or_default()
                        .push((index, row));
                    index += 1;
                }
                Err(status) => broken = Some(status),
            }
        }
        let work = by_user
            .into_values()
            .map(|rows| import_rows(&service, rows).boxed());
        let mut results: Vec<ImportResult> = stream::iter(work)
            .buffer_unordered(at_once)
            .collect::<Vec<_>>()
            .await
            .concat();
        results.sort_by_key(|r| r.index);
        for result in results {
            if answers.send(Ok(result)).await.is_err() {
                return;
            }
        }
        if let Some(status) = broken {
            // if nobody listens any more, nobody needs it
            let _ = answers.send(Err(status)).await;
            return;
        }
    }
}

async fn import_rows(service: &Service, rows: Vec<(u64, UpsertRequest)>) -> Vec<ImportResult> {
    let mut results = Vec::with_capacity(rows.len());
    for (index, row) in rows {
        let result = match service.upsert(&row).await {
            Ok(account) => {
                service.metrics.import_ok.add(1);
                Imported::Account(account)
            }
            Err(e) => {
                service.metrics.import_bad.add(1);
                let status = failed(&e);
                Imported::Problem(Problem {
                    code: code_of(&status).as_str().to_owned(),
                    message: status.message().to_owned(),
                    retry_after_ms: 0,
                })
            }
        };
        results.push(ImportResult {
            index,
            result: Some(result),
        });
    }
    results
}

#[tonic::async_trait]
impl Accounts for Grpc {
    async fn relations(
        &self,
        request: Request<RelationsRequest>,
    ) -> Result<Response<RelationsResponse>, Status> {
        answer(self.service.relations(&request.get_ref().user).await)
    }

    async fn change_contact(
        &self,
        request: Request<ChangeContactRequest>,
    ) -> Result<Response<Contact>, Status> {
        let ChangeContactRequest { user, change } = request.into_inner();
        answer(
            self.service
                .change_contact(&user, &change.unwrap_or_default())
                .await,
        )
    }

    async fn sign_in(
        &self,
        request: Request<SignInRequest>,
    ) -> Result<Response<SignInResponse>, Status> {
        answer(self.service.sign_in(request.get_ref()).await)
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<Found>, Status> {
        let FindRequest { viewer, who } = request.get_ref();
        answer(self.service.find(viewer, who).await)
    }

    async fn set_push_token(
        &self,
        request: Request<SetPushTokenRequest>,
    ) -> Result<Response<SetPushTokenResponse>, Status> {
        let done = self.service.set_push_token(request.get_ref()).await;
        answer(done.map(|()| SetPushTokenResponse {}))
    }

    async fn push_targets(
        &self,
        request: Request<PushTargetsRequest>,
    ) -> Result<Response<PushTargetsResponse>, Status> {
        let targets = self.service.push_targets(&request.get_ref().users).await;
        answer(targets.map(|targets| PushTargetsResponse { targets }))
    }
}
