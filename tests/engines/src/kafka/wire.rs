//! The three questions that are asked of a broker, in Kafka's own protocol: cheaper by seconds than
//! Kafka's tools, and without a client library.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::fleet::Answer;

const METADATA: i16 = 3;
const DESCRIBE_QUORUM: i16 = 55;
const NO_LEADER: i32 = -1;

/// The ids of the brokers that are registered and not fenced (Metadata v1).
pub(super) fn brokers(stream: &mut TcpStream) -> Answer<Vec<usize>> {
    let mut reply = metadata(stream, &[])?;
    reply.brokers()
}

/// The id of a partition's leader (Metadata v1).
pub(super) fn leader(stream: &mut TcpStream, topic: &str, partition: i32) -> Answer<usize> {
    let mut reply = metadata(stream, &[topic])?;
    reply.brokers()?;
    reply.int32()?; // the controller, which a broker makes up
    if reply.int32()? != 1 {
        return Err(format!("no answer about topic {topic}"));
    }
    reply.no_error()?;
    reply.string()?;
    reply.skip(1)?; // internal?
    for _ in 0..reply.int32()? {
        reply.int16()?; // a partition without a leader is an error, too
        let (index, leader) = (reply.int32()?, reply.int32()?);
        for _ in 0..2 {
            let ids = reply.int32()?;
            reply.skip(4 * ids as usize)?;
        }
        if index == partition {
            return id(leader);
        }
    }
    Err(format!("topic {topic} has no partition {partition}"))
}

/// The id of the active controller (DescribeQuorum v0, which the broker passes on to it).
pub(super) fn controller(stream: &mut TcpStream) -> Answer<usize> {
    const TOPIC: &[u8] = b"__cluster_metadata";
    // a "flexible" version: lengths are varints of one more, and tags (none: 0) end each structure
    let mut body = vec![2, TOPIC.len() as u8 + 1];
    body.extend(TOPIC);
    body.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    let mut reply = call(stream, DESCRIBE_QUORUM, 0, true, &body)?;
    reply.no_error()?;
    reply.skip(2 + TOPIC.len() + 1 + 4)?; // one topic, its name, one partition, its index
    reply.no_error()?;
    id(reply.int32()?)
}

fn id(node: i32) -> Answer<usize> {
    if node == NO_LEADER {
        return Err("there is no leader at the moment".into());
    }
    usize::try_from(node).map_err(|_| format!("{node} is no node"))
}

fn metadata(stream: &mut TcpStream, topics: &[&str]) -> Answer<Reply> {
    let mut body = (topics.len() as i32).to_be_bytes().to_vec();
    for topic in topics {
        body.extend((topic.len() as i16).to_be_bytes());
        body.extend(topic.as_bytes());
    }
    call(stream, METADATA, 1, false, &body)
}

fn call(
    stream: &mut TcpStream,
    api: i16,
    version: i16,
    flexible: bool,
    body: &[u8],
) -> Answer<Reply> {
    const CLIENT: &[u8] = b"tandem";
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(0_i32.to_be_bytes()); // correlation
    request.extend((CLIENT.len() as i16).to_be_bytes());
    request.extend(CLIENT);
    if flexible {
        request.push(0);
    }
    request.extend(body);
    let mut exchange = || -> std::io::Result<Vec<u8>> {
        stream.write_all(&(request.len() as i32).to_be_bytes())?;
        stream.write_all(&request)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut reply)?;
        Ok(reply)
    };
    let bytes = exchange().map_err(|e| e.to_string())?;
    let mut reply = Reply { bytes, at: 0 };
    reply.skip(if flexible { 5 } else { 4 })?;
    Ok(reply)
}

struct Reply {
    bytes: Vec<u8>,
    at: usize,
}

impl Reply {
    fn take<const N: usize>(&mut self) -> Answer<[u8; N]> {
        let bytes = self.bytes.get(self.at..self.at + N);
        let bytes = bytes
            .and_then(|b| b.try_into().ok())
            .ok_or("a short reply")?;
        self.at += N;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: usize) -> Answer {
        self.at += bytes;
        if self.at > self.bytes.len() {
            return Err("a short reply".into());
        }
        Ok(())
    }

    fn int16(&mut self) -> Answer<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Answer<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn no_error(&mut self) -> Answer {
        match self.int16()? {
            0 => Ok(()),
            code => Err(format!("kafka's error {code}")),
        }
    }

    /// Passes over a string, which may be null (-1).
    fn string(&mut self) -> Answer {
        let length = self.int16()?;
        self.skip(usize::try_from(length).unwrap_or(0))
    }

    fn brokers(&mut self) -> Answer<Vec<usize>> {
        let mut ids = Vec::new();
        for _ in 0..self.int32()? {
            ids.push(id(self.int32()?)?);
            self.string()?; // host
            self.skip(4)?; // port
            self.string()?; // rack
        }
        Ok(ids)
    }
}
