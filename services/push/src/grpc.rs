//! proto ↔ push.

use std::{collections::BTreeSet, sync::Arc};

use tandem_chassis::grpc::status;
use tandem_kernel::{Code, Place};
use tandem_log::LogError;
use tandem_proto::push::{
    ListDeadRequest, ListDeadResponse, ReplayDeadRequest, ReplayDeadResponse, VapidKeyRequest,
    VapidKeyResponse, push_server::Push,
};
use tonic::{Request, Response, Status};

use crate::usecase::dead::{Dead, MOST};

/// The `Push` service.
#[derive(Clone)]
pub struct PushService(Arc<Inner>);

struct Inner {
    public_key: Vec<u8>,
    dead: Dead,
}

impl PushService {
    pub(crate) fn new(public_key: Vec<u8>, dead: Dead) -> Self {
        Self(Arc::new(Inner { public_key, dead }))
    }
}

fn failed(error: &LogError) -> Status {
    status(error.code(), error.to_string())
}

#[tonic::async_trait]
impl Push for PushService {
    async fn vapid_key(
        &self,
        _: Request<VapidKeyRequest>,
    ) -> Result<Response<VapidKeyResponse>, Status> {
        Ok(Response::new(VapidKeyResponse {
            public_key: self.0.public_key.clone(),
        }))
    }

    async fn list_dead(
        &self,
        request: Request<ListDeadRequest>,
    ) -> Result<Response<ListDeadResponse>, Status> {
        let limit = match request.into_inner().limit as usize {
            0 => 100,
            limit => limit.min(MOST),
        };
        let letters = self
            .0
            .dead
            .list(limit, &BTreeSet::new())
            .await
            .map_err(|e| failed(&e))?;
        Ok(Response::new(ListDeadResponse { letters }))
    }

    async fn replay_dead(
        &self,
        request: Request<ReplayDeadRequest>,
    ) -> Result<Response<ReplayDeadResponse>, Status> {
        let places = request.into_inner().places;
        if places.len() > MOST {
            let message = format!("name at most {MOST} places");
            return Err(status(Code::InvalidArgument, message));
        }
        let places = places
            .iter()
            .map(|p| Place {
                partition: p.partition,
                offset: p.offset,
            })
            .collect();
        let (sent, failures) = self.0.dead.replay(&places).await.map_err(|e| failed(&e))?;
        Ok(Response::new(ReplayDeadResponse {
            sent,
            failed: failures,
        }))
    }
}
