//! As much of CQL's native protocol (v4) as it takes to ask a node whether it works.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::fleet::Answer;

const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const AUTHENTICATE: u8 = 0x03;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const AUTH_RESPONSE: u8 = 0x0f;
const AUTH_SUCCESS: u8 = 0x10;

/// How many replicas must answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Consistency {
    One = 1,
    All = 5,
}

/// A connection to one node.
pub(super) struct Session {
    stream: TcpStream,
}

impl Session {
    /// Shakes hands, with user and password if there are any and they are asked for.
    pub(super) fn open(stream: TcpStream, login: Option<(&str, &str)>) -> Answer<Self> {
        let mut session = Self { stream };
        let mut options = 1_u16.to_be_bytes().to_vec();
        for text in ["CQL_VERSION", "3.0.0"] {
            options.extend((text.len() as u16).to_be_bytes());
            options.extend(text.as_bytes());
        }
        match (session.call(STARTUP, &options)?, login) {
            (READY, _) => Ok(session),
            (AUTHENTICATE, Some((user, password))) => {
                let token = format!("\0{user}\0{password}");
                session.call_for(AUTH_SUCCESS, AUTH_RESPONSE, &long(&token))?;
                Ok(session)
            }
            (AUTHENTICATE, None) => Err("a password is wanted".into()),
            (code, _) => Err(format!("an answer of kind {code}")),
        }
    }

    /// Runs a statement; what it returns is not looked at.
    pub(super) fn run(&mut self, statement: &str, consistency: Consistency) -> Answer {
        let mut body = long(statement);
        body.extend((consistency as u16).to_be_bytes());
        body.push(0); // no flags
        self.call_for(RESULT, QUERY, &body)
    }

    fn call_for(&mut self, wanted: u8, code: u8, body: &[u8]) -> Answer {
        let got = self.call(code, body)?;
        (got == wanted)
            .then_some(())
            .ok_or_else(|| format!("an answer of kind {got}"))
    }

    /// Sends one frame and reads one; an error frame is an error.
    fn call(&mut self, code: u8, body: &[u8]) -> Answer<u8> {
        let (code, body) = self.exchange(code, body).map_err(|e| e.to_string())?;
        if code == ERROR {
            // a number, then a short string
            let text = String::from_utf8_lossy(body.get(6..).unwrap_or_default());
            return Err(text.into_owned());
        }
        Ok(code)
    }

    fn exchange(&mut self, code: u8, body: &[u8]) -> io::Result<(u8, Vec<u8>)> {
        const VERSION: u8 = 4;
        let mut frame = vec![VERSION, 0, 0, 0, code];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        self.stream.write_all(&frame)?;
        let mut header = [0; 9];
        self.stream.read_exact(&mut header)?;
        let [_, _, _, _, code, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        Ok((code, body))
    }
}

fn long(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
