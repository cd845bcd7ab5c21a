//! The gRPC faces: `Edge` for routing and presence, `Messenger` for devices.

use std::sync::{Arc, atomic::Ordering};

use tandem_chassis::telemetry;
use tandem_kernel::SessionId;
use tandem_proto::{
    client::{ClientFrame, ServerFrame, messenger_server::Messenger, server_frame},
    edge::{DeliverAck, DeliverBatch, Delivery, delivery::What, edge_server},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    domain::frame::Parcel,
    edge::Edge,
    mailbox::Item,
    wire::{GrpcWire, Wire},
};

/// Serves both.
#[derive(Clone)]
pub struct Grpc(pub Arc<Edge>);

impl Edge {
    /// Puts everything of a batch into its sessions' mailboxes. Sessions that are not here are passed over.
    pub fn deliver(&self, deliveries: Vec<Delivery>) {
        let mut parcels = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let frame = match delivery.what {
                Some(What::Event(event)) => server_frame::Frame::Event(event),
                Some(What::Typing(typing)) => server_frame::Frame::Typing(typing),
                Some(What::Presence(presence)) => server_frame::Frame::Presence(presence),
                Some(What::Contact(contact)) => server_frame::Frame::Contact(contact),
                None => continue,
            };
            let Some(mut parcel) = Parcel::new(&frame) else {
                continue;
            };
            if self
                .parcels
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(64)
            {
                parcel.sampled_at = Some(self.doors.clock.monotonic());
            }
            parcel.span = telemetry::child(&delivery.traceparent, || {
                tracing::info_span!("edge.deliver")
            });
            parcels.push((delivery.sessions, Arc::new(parcel)));
        }
        self.registry.with(|sessions| {
            for (ids, parcel) in parcels {
                for id in ids {
                    let handle = SessionId::from_slice(&id)
                        .ok()
                        .and_then(|id| sessions.get(&id));
                    if let Some(handle) = handle {
                        // one that is closing syncs when it returns
                        let _ = handle
                            .mailbox
                            .push(Item::Parcel(Arc::clone(&parcel)), self.mailbox);
                    }
                }
            }
        });
    }
}

#[tonic::async_trait]
impl edge_server::Edge for Grpc {
    type DeliverStream = ReceiverStream<Result<DeliverAck, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverBatch>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (acks, out) = mpsc::channel(64);
        let edge = Arc::clone(&self.0);
        let mut batches = request.into_inner();
        self.0.lifecycle.spawn_support("edge deliver", async move {
            while let Ok(Some(DeliverBatch { id, deliveries })) = batches.message().await {
                edge.deliver(deliveries);
                if acks.send(Ok(DeliverAck { id })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(out)))
    }
}

#[tonic::async_trait]
impl Messenger for Grpc {
    type ConnectStream = ReceiverStream<Result<ServerFrame, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (to, out) = mpsc::channel(16);
        let wire = Wire::Grpc(GrpcWire::new(request.into_inner(), to));
        self.0.serve(async move { Some(wire) });
        Ok(Response::new(ReceiverStream::new(out)))
    }
}
