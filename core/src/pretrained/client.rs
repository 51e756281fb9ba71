//! The HTTP client: one request for a file, or for the rest of it.

use super::error::PretrainedError;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

pub(super) struct Client(Agent);

/// A failed request, with the reason.
pub(super) enum Failure {
    /// Another attempt would fail too.
    Final(String),
    /// Another attempt may succeed.
    Temporary(String),
    /// The server cannot continue the partial file.
    Part(String),
}

/// The answer to a request.
pub(super) struct Answer {
    /// Offset of the first byte of `body` in the file.
    pub start: u64,
    /// Length of the whole file.
    pub total: Option<u64>,
    /// ETag of this version of the file.
    pub tag: Option<String>,
    pub body: Box<dyn Read>,
}

impl Client {
    /// A client that uses the proxy of the environment. `timeout` is the longest time without a connection, an answer,
    /// or any data.
    pub fn new(timeout: Duration) -> Result<Self, PretrainedError> {
        let limit = Some(timeout);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(limit)
            .timeout_recv_response(limit)
            .timeout_per_read(limit)
            .timeout_per_write(limit)
            .user_agent(concat!("mrcnn/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            let roots = certificates(Path::new(&path))?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self(config.build().new_agent()))
    }

    /// Requests a file from the byte `start` on. `tag` is the ETag of the first bytes: the answer starts at 0 if the
    /// file has changed since, or if the server cannot send a part.
    pub fn get(&self, url: &str, start: u64, tag: Option<&str>) -> Result<Answer, Failure> {
        let mut request = self.0.get(url);
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
            if let Some(tag) = tag {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let response = request.call().map_err(|error| failure(&error))?;
        let status = response.status();
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_string());
        let length = response.body().content_length();
        let tag = text(header::ETAG).filter(|tag| !tag.starts_with("W/"));
        let (start, total) = match status.as_u16() {
            200 => (0, length),
            206 => match text(header::CONTENT_RANGE).as_deref().and_then(range) {
                Some((first, total)) if first == start => (start, total),
                _ => {
                    return Err(Failure::Part(
                        "the server sent another part than requested".into(),
                    ));
                }
            },
            416 if start > 0 => return Err(Failure::Part(format!("the server answered {status}"))),
            408 | 425 | 429 | 500.. => {
                return Err(Failure::Temporary(format!("the server answered {status}")));
            }
            _ => return Err(Failure::Final(format!("the server answered {status}"))),
        };
        Ok(Answer {
            start,
            total,
            tag,
            body: Box::new(Response::into_body(response).into_reader()),
        })
    }
}

/// The first byte and the length of the whole file of `bytes 100-199/200`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (part, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = part.split_once('-')?.0.parse().ok()?;
    Some((first, total.parse().ok()))
}

fn failure(error: &ureq::Error) -> Failure {
    let text = match error {
        // Without ureq's `io: `.
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    match error {
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::BodyStalled => {
            Failure::Temporary(text)
        }
        // Others are final: a machine without a network cannot resolve the name, or no server listens.
        ureq::Error::Io(error) if is_temporary(error.kind()) => Failure::Temporary(text),
        _ => Failure::Final(text),
    }
}

/// Whether a connection may work a moment later.
fn is_temporary(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::BrokenPipe
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::UnexpectedEof
            | ErrorKind::Interrupted
    )
}

/// The certificate authorities of a PEM file.
fn certificates(path: &Path) -> Result<RootCerts, PretrainedError> {
    let error = |reason: String| PretrainedError::Certificates {
        path: path.into(),
        reason,
    };
    let text = std::fs::read(path).map_err(|source| error(source.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|source| error(source.to_string()))?
        {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(error("it has no certificate".into())),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed() {
        assert_eq!(range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(range("bytes 0-1/*"), Some((0, None)));
        assert_eq!(range("bytes */200"), None);
        assert_eq!(range("100-199/200"), None);
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for text in [None, Some(""), Some("not PEM")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = certificates(&path).err().unwrap().to_string();
            assert!(
                error.contains("ca.pem") && error.contains("SSL_CERT_FILE"),
                "{error}"
            );
        }
    }
}
