//! The proto3 JSON mapping (<https://protobuf.dev/programming-guides/json/>) of the client frames.
//!
//! 64-bit integers are strings, bytes are base64, enums are their names; unknown fields are refused.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};

use crate::client::{ClientFrame, ServerFrame};

/// Why a JSON frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not of the frame's shape.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// The descriptors and the generated code disagree (a defect of the build).
    #[error("{0}")]
    Wire(#[from] prost::DecodeError),
    /// The descriptor set lacks the message (a defect of the build).
    #[error("no descriptor of {0}")]
    Descriptor(&'static str),
}

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).ok());

fn descriptor(name: &'static str) -> Result<MessageDescriptor, JsonError> {
    POOL.as_ref()
        .and_then(|p| p.get_message_by_name(name))
        .ok_or(JsonError::Descriptor(name))
}

fn parse<M: Message + Default>(name: &'static str, text: &str) -> Result<M, JsonError> {
    let mut de = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize_with_options(
        descriptor(name)?,
        &mut de,
        &DeserializeOptions::new().deny_unknown_fields(true),
    )?;
    de.end()?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

fn print<M: Message>(name: &'static str, message: &M) -> Result<String, JsonError> {
    let mut dynamic = DynamicMessage::new(descriptor(name)?);
    dynamic.transcode_from(message)?;
    Ok(serde_json::to_string(&dynamic)?)
}

/// Reads a frame that a device sent as JSON.
pub fn client_frame_from_json(text: &str) -> Result<ClientFrame, JsonError> {
    parse("tandem.client.v1.ClientFrame", text)
}

/// Writes a frame as a device would, in JSON.
pub fn client_frame_to_json(frame: &ClientFrame) -> Result<String, JsonError> {
    print("tandem.client.v1.ClientFrame", frame)
}

/// Reads a frame that an edge sent as JSON.
pub fn server_frame_from_json(text: &str) -> Result<ServerFrame, JsonError> {
    parse("tandem.client.v1.ServerFrame", text)
}

/// Writes a frame for a device that speaks JSON.
pub fn server_frame_to_json(frame: &ServerFrame) -> Result<String, JsonError> {
    print("tandem.client.v1.ServerFrame", frame)
}
