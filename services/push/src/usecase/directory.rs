//! A group as routing's directory has it.

use std::time::Duration;

use futures::future::BoxFuture;
use tandem_chassis::grpc;
use tandem_kernel::{
    Address, Code, ConversationId, Seq,
    group::{Group, Member},
};
use tandem_proto::routing::{MembersRequest, MembersResponse, routing_client::RoutingClient};
use tokio::time::timeout;

use crate::error::Error;

/// Asks routing.
#[derive(Clone)]
pub struct Directory {
    /// The way to routing.
    pub routing: RoutingClient<grpc::Channel>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Directory {
    /// The group; one that routing does not know (yet) has not been created.
    pub fn group(&self, id: &ConversationId) -> BoxFuture<'static, Result<Group, Error>> {
        let request = MembersRequest {
            conversation: id.to_string(),
            user: String::new(),
        };
        let (mut routing, limit) = (self.routing.clone(), self.timeout);
        Box::pin(async move {
            match timeout(limit, routing.members(request)).await {
                Err(_) => Err(failed(Code::DeadlineExceeded, "no answer in time".into())),
                Ok(Ok(answer)) => group(answer.into_inner()),
                Ok(Err(status)) => match grpc::code_of(&status) {
                    Code::NotFound => Ok(Group::default()),
                    code => Err(failed(code, status.message().to_owned())),
                },
            }
        })
    }
}

fn failed(code: Code, message: String) -> Error {
    Error::Service {
        service: "routing",
        code,
        message,
    }
}

fn group(answer: MembersResponse) -> Result<Group, Error> {
    let members = answer.members.unwrap_or_default();
    let mut group = Group {
        title: members.title,
        as_of: Seq(answer.as_of_seq),
        ..Group::default()
    };
    for (i, member) in members.members.into_iter().enumerate() {
        let address = Address::parse(&member.user)
            .map_err(|e| failed(Code::Internal, format!("a member is not an address: {e}")))?;
        let joined = Seq(answer.joined_seqs.get(i).copied().unwrap_or(0));
        let role = member.role();
        group.members.insert(address, Member { role, joined });
    }
    Ok(group)
}
