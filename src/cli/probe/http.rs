//! `bowline probe --http`: one GET, for the port for operators, from an image that has no other program to ask with.

use http::Uri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Args, Health};

/// Most that is read of an answer.
const MAX_ANSWER: u64 = 16 << 20;

/// What the answer means, and the sentence that says so.
pub(super) async fn probe(args: &Args, url: &str) -> (Health, String) {
    let (host, port, path) = match parts(url) {
        Ok(parts) => parts,
        Err(sentence) => return (Health::Arguments, sentence),
    };
    let limit = humantime::format_duration(args.connect_timeout);
    let mut socket = match timeout(args.connect_timeout, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return (Health::Connection, format!("cannot connect to {url}: {error}")),
        Err(_) => return (Health::Connection, format!("cannot connect to {url} within {limit}")),
    };
    // 1.0, so that the answer ends with the connection and comes in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: */*\r\n\r\n");
    let exchange = async {
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = match timeout(args.rpc_timeout, exchange).await {
        Ok(Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
        Ok(Err(error)) => return (Health::Rpc, format!("{url} did not answer: {error}")),
        Err(_) => {
            let limit = humantime::format_duration(args.rpc_timeout);
            return (Health::Rpc, format!("{url} did not answer within {limit}"));
        }
    };
    judged(url, &answer, args.contains.as_deref())
}

/// Host, port and path of a URL.
fn parts(url: &str) -> Result<(String, u16, String), String> {
    let uri: Uri = url.parse().map_err(|error| format!("--http {url:?} is not a URL: {error}"))?;
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(format!("--http {url:?} has to be http://HOST:PORT/PATH"));
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((host.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(80), path.to_owned()))
}

fn judged(url: &str, answer: &str, contains: Option<&str>) -> (Health, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let line = head.lines().next().unwrap_or_default();
    let Some(status) = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)) else {
        return (Health::Rpc, format!("what {url} answered is not HTTP"));
    };
    let first = body.lines().next().unwrap_or_default();
    match contains {
        _ if !status.starts_with("200") => (Health::Unhealthy, format!("status: {status}: {first}")),
        Some(text) if !body.contains(text) => (Health::Unhealthy, format!("{url} does not say {text:?}")),
        _ => (Health::Serving, format!("status: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_a_port_and_a_path() {
        let parts = |url| parts(url).map(|(host, port, path)| format!("{host} {port} {path}"));
        assert_eq!(parts("http://10.0.0.7:9090/readyz?verbose").unwrap(), "10.0.0.7 9090 /readyz?verbose");
        assert_eq!(parts("http://[::1]:9090").unwrap(), "::1 9090 /");
        assert_eq!(parts("http://bowline-admin/livez").unwrap(), "bowline-admin 80 /livez");
        for bad in ["https://127.0.0.1:9090/", "127.0.0.1:9090", "http:// /", "/readyz"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_healthy_if_it_is_200_and_says_what_is_looked_for() {
        let health = |answer, contains| judged("http://a/", answer, contains).0;
        let ok = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nup 1\n";
        assert_eq!(health(ok, None), Health::Serving);
        assert_eq!(health(ok, Some("up 1")), Health::Serving);
        // Not what stands in the head.
        assert_eq!(health(ok, Some("content-length")), Health::Unhealthy);
        assert_eq!(health("HTTP/1.1 503 Service Unavailable\r\n\r\nup 1", Some("up")), Health::Unhealthy);
        assert_eq!(health("SSH-2.0-x\r\n", None), Health::Rpc);
        assert_eq!(health("", None), Health::Rpc);
    }
}
