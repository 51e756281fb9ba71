//! Downloads of files by URL, such as the images of a prediction; nothing is kept in the cache.

use super::client::{Answer, Client, Failure};
use super::error::PretrainedError;
use percent_encoding::percent_decode_str;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Maximum number of characters of a file name; most file systems allow as many.
const LONGEST_NAME: usize = 100;

/// Settings of the download of a URL.
#[derive(Clone, Debug)]
pub struct UrlOptions {
    /// Maximum length of the file in bytes.
    pub limit: u64,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Longest time without a connection, an answer, or any data.
    pub timeout: Duration,
    /// Number of attempts, each from the start, before the download fails.
    pub attempts: u32,
    /// Pause after the first failed attempt; it doubles after each.
    pub pause: Duration,
}

impl UrlOptions {
    /// Three attempts with a timeout of 30 seconds, unless `MRCNN_OFFLINE` forbids the network.
    pub fn from_env(limit: u64) -> Self {
        Self {
            limit,
            offline: super::options::is_offline(),
            timeout: Duration::from_secs(30),
            attempts: 3,
            pause: Duration::from_secs(1),
        }
    }
}

/// Errors of downloading a URL. Messages have the URL without its query, which may contain a password.
#[derive(Debug, Error)]
pub enum UrlError {
    /// The network may not be used.
    #[error(
        "{url}: --offline or MRCNN_OFFLINE forbids the network; download it, and give the file by its path"
    )]
    Offline {
        /// The URL.
        url: String,
    },
    /// The download failed.
    #[error(
        "{url}: {reason}; check the URL and the network, or give a downloaded file by its path"
    )]
    Download {
        /// The URL.
        url: String,
        /// The failure.
        reason: String,
    },
    /// The file is larger than the limit.
    #[error(
        "{url}: it is larger than {} MB, the limit for downloads; download it in another way, and give the file by its \
         path",
        limit / 1_000_000
    )]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The certificate authorities of `SSL_CERT_FILE` cannot be used.
    #[error(transparent)]
    Certificates(#[from] PretrainedError),
}

/// A URL without user, password, query and fragment, for messages and results.
pub fn public_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.into();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The last part of a URL's path as the name of a file: decoded, at most 100 characters, and without characters that
/// file systems refuse. Empty if the path ends with a slash.
pub fn url_file_name(url: &str) -> String {
    let url = public_url(url);
    let path = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let last = path.rsplit_once('/').map_or("", |(_, last)| last);
    let decoded = percent_decode_str(last).decode_utf8_lossy();
    let is_refused = |c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c);
    let safe = decoded.chars().map(|c| if is_refused(c) { '_' } else { c });
    // The end has the extension.
    let skipped = decoded.chars().count().saturating_sub(LONGEST_NAME);
    safe.skip(skipped).collect()
}

/// Downloads a URL into memory.
///
/// # Errors
///
/// If the network fails or is forbidden, the server refuses, or the file is larger than the limit.
pub fn get_bytes(url: &str, options: &UrlOptions) -> Result<Vec<u8>, UrlError> {
    // A vector is written without errors, so there is no path to name.
    attempts(url, Path::new(""), options, &mut |answer| {
        let mut bytes = Vec::new();
        receive(answer, options.limit, &mut bytes, &mut |_, _| ())?;
        Ok(bytes)
    })
}

/// Downloads a URL to a file, which is replaced if it exists. `on_bytes` is called with the number of received bytes
/// and with the length that the server states.
///
/// # Errors
///
/// As [`get_bytes`], and if the file cannot be written.
pub fn get_file(
    url: &str,
    path: &Path,
    options: &UrlOptions,
    on_bytes: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), UrlError> {
    attempts(url, path, options, &mut |answer| {
        let mut file = File::create(path).map_err(Problem::Write)?;
        receive(answer, options.limit, &mut file, on_bytes)
    })
}

/// A failed attempt.
enum Problem {
    /// Another attempt may succeed.
    Temporary(String),
    TooLarge,
    Write(io::Error),
}

/// Requests a URL until `take` has received the answer, which it writes to `path`.
fn attempts<T>(
    url: &str,
    path: &Path,
    options: &UrlOptions,
    take: &mut dyn FnMut(&mut Answer) -> Result<T, Problem>,
) -> Result<T, UrlError> {
    let shown = public_url(url);
    if options.offline {
        return Err(UrlError::Offline { url: shown });
    }
    let client = Client::new(options.timeout)?;
    let mut failures = 0;
    loop {
        let taken = match client.get(url, 0, None) {
            Ok(mut answer) => take(&mut answer),
            Err(Failure::Final(reason)) => return Err(UrlError::Download { url: shown, reason }),
            Err(Failure::Temporary(reason) | Failure::Part(reason)) => {
                Err(Problem::Temporary(reason))
            }
        };
        let reason = match taken {
            Ok(taken) => return Ok(taken),
            Err(Problem::Temporary(reason)) => reason,
            Err(Problem::TooLarge) => {
                return Err(UrlError::TooLarge {
                    url: shown,
                    limit: options.limit,
                });
            }
            Err(Problem::Write(source)) => {
                return Err(UrlError::File {
                    path: path.into(),
                    source,
                });
            }
        };
        failures += 1;
        if failures >= options.attempts {
            let reason = format!("{reason}, in the last of {failures} attempts");
            return Err(UrlError::Download { url: shown, reason });
        }
        std::thread::sleep(options.pause * 2u32.pow(failures.min(6) - 1));
    }
}

/// Copies the body of an answer.
fn receive(
    answer: &mut Answer,
    limit: u64,
    to: &mut dyn Write,
    on_bytes: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), Problem> {
    if answer.total.is_some_and(|total| total > limit) {
        return Err(Problem::TooLarge);
    }
    let (mut done, mut block) = (0, vec![0; 1 << 18]);
    loop {
        on_bytes(done, answer.total);
        let length = match answer.body.read(&mut block) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Problem::Temporary(format!("{error} after {done} bytes")));
            }
        };
        done += length as u64;
        if done > limit {
            return Err(Problem::TooLarge);
        }
        to.write_all(&block[..length]).map_err(Problem::Write)?;
    }
    match answer.total {
        Some(total) if total != done => Err(Problem::Temporary(format!(
            "the connection ended after {done} of {total} bytes"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_queries_are_not_shown() {
        for (url, shown) in [
            ("https://a.org/b/c.jpg?key=1#x", "https://a.org/b/c.jpg"),
            ("http://me:secret@a.org:80/c.jpg", "http://a.org:80/c.jpg"),
            ("https://a.org/@b/c.jpg", "https://a.org/@b/c.jpg"),
            ("https://a.org?u=me@b/c", "https://a.org"),
        ] {
            assert_eq!(public_url(url), shown);
        }
    }

    #[test]
    fn file_names_are_those_of_the_path() {
        for (url, name) in [
            ("https://a.org/b/my%20photo.jpg?size=9", "my photo.jpg"),
            ("https://a.org/b/..%2F..%5Cc:d.png", ".._.._c_d.png"),
            ("https://a.org/%C3%A9.png#top", "é.png"),
            ("https://a.org/b/", ""),
            ("https://a.org", ""),
        ] {
            assert_eq!(url_file_name(url), name);
        }
        let long = url_file_name(&format!("https://a.org/{}.jpg", "é".repeat(300)));
        assert!(long.ends_with("é.jpg") && long.chars().count() == LONGEST_NAME);
    }
}
