//! Which names a client may call the server by, and which pages may ask it. Uses no connection.
//!
//! 1. A page that a browser shows can send requests to any address that the browser reaches, the
//!    user's own included. A browser says in `Origin` whose page it is; a page that is not allowed
//!    by name is refused before anything is done for it.
//! 2. A page can have the name of its host resolve to the loopback address (DNS rebinding); to
//!    the browser, page and server are then one origin. So a server on a loopback address answers
//!    to the names of that address alone, and to those that are allowed.
//! 3. Programs that are no browsers send no `Origin`, and need send no `Host`.

use std::net::SocketAddr;

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Names, with the port where one is asked for; `None`: any.
    hosts: Option<Vec<String>>,
    /// Allowed beside them, with any port.
    allowed_hosts: Vec<String>,
    /// Origins of pages: scheme, host, port.
    allowed_origins: Vec<String>,
}

impl Access {
    /// That of a server that listens on `address`, which was asked for as `host`.
    pub fn new(
        host: &str,
        address: SocketAddr,
        allowed_hosts: &[String],
        allowed_origins: &[String],
    ) -> Self {
        let own = [host, "localhost", "127.0.0.1", "[::1]"];
        let port = address.port();
        let with_port = own.iter().map(|name| format!("{name}:{port}"));
        // Clients leave the port of the scheme out.
        let without = own.iter().filter(|_| port == 80).map(|name| name.to_string());
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let hosts = (address.ip().is_loopback() || !allowed_hosts.is_empty())
            .then(|| with_port.chain(without).collect());
        Access {
            hosts,
            allowed_hosts: lower(allowed_hosts),
            allowed_origins: lower(allowed_origins),
        }
    }

    /// Whether a request with these headers may be answered.
    ///
    /// # Errors
    /// Why not, and what would allow it.
    pub fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), String> {
        if let (Some(hosts), Some(host)) = (&self.hosts, host.map(str::to_ascii_lowercase)) {
            let name = match host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                _ => host.as_str(),
            };
            if !hosts.contains(&host)
                && !self.allowed_hosts.iter().any(|allowed| *allowed == host || allowed == name)
            {
                return Err(format!(
                    "this server is not `{host}`; start it with --allow-host {name} if it is"
                ));
            }
        }
        match origin.map(str::to_ascii_lowercase) {
            Some(origin) if !self.allowed_origins.contains(&origin) => Err(format!(
                "pages of `{origin}` may not ask this server; start it with --allow-origin \
                 {origin} to let them"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(host: &str, address: &str, hosts: &[&str], origins: &[&str]) -> Access {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        Access::new(host, address.parse().unwrap(), &texts(hosts), &texts(origins))
    }

    #[test]
    fn on_a_loopback_address_only_its_own_names_are_answered() {
        let plain = access("127.0.0.1", "127.0.0.1:8000", &[], &[]);
        for host in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:8000"] {
            assert_eq!(plain.check(Some(host), None), Ok(()), "{host}");
        }
        assert_eq!(plain.check(None, None), Ok(()));
        for host in [
            "evil.example:8000",
            "localhost:8001",
            "localhost",
            "evil.example",
            "",
            "127.0.0.1.evil.example:8000",
        ] {
            assert!(plain.check(Some(host), None).is_err(), "{host}");
        }
        let named = access("127.0.0.1", "127.0.0.1:8000", &["Box.lan"], &[]);
        for host in ["box.lan", "box.lan:8000", "box.lan:443", "localhost:8000"] {
            assert_eq!(named.check(Some(host), None), Ok(()), "{host}");
        }
        assert!(named.check(Some("other.lan"), None).is_err());
        assert_eq!(
            access("127.0.0.1", "127.0.0.1:80", &[], &[]).check(Some("localhost"), None),
            Ok(())
        );
        assert_eq!(
            access("0.0.0.0", "0.0.0.0:8000", &[], &[]).check(Some("any.lan:8000"), None),
            Ok(())
        );
        assert!(
            access("0.0.0.0", "0.0.0.0:8000", &["box.lan"], &[])
                .check(Some("any.lan:8000"), None)
                .is_err()
        );
    }

    #[test]
    fn a_page_asks_only_where_its_origin_is_allowed() {
        let plain = access("0.0.0.0", "0.0.0.0:8000", &[], &[]);
        for origin in ["http://evil.example", "http://localhost:8000", "null"] {
            assert!(
                plain
                    .check(Some("localhost:8000"), Some(origin))
                    .unwrap_err()
                    .contains("--allow-origin"),
                "{origin}"
            );
        }
        let open = access("127.0.0.1", "127.0.0.1:8000", &[], &["http://localhost:3000"]);
        assert_eq!(open.check(Some("localhost:8000"), Some("http://localhost:3000")), Ok(()));
        assert!(open.check(Some("localhost:8000"), Some("http://localhost:3001")).is_err());
        assert!(open.check(Some("evil.example"), Some("http://localhost:3000")).is_err());
    }
}
