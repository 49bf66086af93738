//! The other end of what a simulated node serves: a connection from a host of the simulation, one exchange on it, and the
//! admin API as an operator uses it.

use crate::history::{Answer, Id};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use turmoil::net::TcpStream;

pub(super) async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // How it ended shows in the answer to the request that was on it.
        let _ = connection.await;
    });
    Ok(sender)
}

pub(super) async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Answer {
    let (head, body) = match sender.send_request(request).await {
        Ok(response) => response.into_parts(),
        Err(error) => return Answer::None(error.to_string()),
    };
    let id = head.headers.get("x-request").and_then(|value| value.to_str().ok()).and_then(Id::parse);
    match body.collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
            Answer::Whole { status: head.status, id, echo: String::from_utf8_lossy(&body[..end]).into_owned() }
        }
        Err(error) => Answer::Broken(error.to_string()),
    }
}

pub(super) type Failed = Box<dyn std::error::Error>;

/// The admin listener of a node, on a connection that is kept.
pub(super) struct Admin<'a> {
    sender: SendRequest<Full<Bytes>>,
    token: &'a str,
}

impl<'a> Admin<'a> {
    pub(super) async fn connect(to: SocketAddr, token: &'a str) -> Result<Self, Failed> {
        Ok(Self { sender: connect(to).await?, token })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Value, Failed> {
        let (status, body) = self.ask(Method::GET, path, String::new()).await?;
        let value: Value = serde_json::from_slice(&body)?;
        if status == 200 { Ok(value) } else { Err(format!("{path}: {value}").into()) }
    }

    pub(super) async fn ask(&mut self, method: Method, path: &str, body: String) -> Result<(u16, Bytes), Failed> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::from(body))?).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

/// A list as the admin API gives it, by itself or as `items`.
pub(super) fn listed(value: &Value) -> Result<&Vec<Value>, Failed> {
    value.as_array().or_else(|| value["items"].as_array()).ok_or_else(|| format!("{value} is no list").into())
}
