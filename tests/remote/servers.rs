//! Real servers on loopback: nginx with PUT of WebDAV, and S3.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::machine::{Machine, SWEEP};
use crate::cli::place::wait_until;
use crate::tools::left_out;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A server that ends with its test.
struct Running {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn await_port(port: u16) {
    wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
}

/// nginx on a folder; `None` if there is none.
fn nginx() -> Option<(Running, String)> {
    let unpacked = Path::new(ROOT).join("target/nginx/usr/sbin/nginx");
    let known = [unpacked, PathBuf::from("/usr/sbin/nginx")];
    let Some(program) = known.into_iter().find(|path| path.exists()) else {
        left_out("there is no nginx; tests/remote/fetch brings it");
        return None;
    };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let root = folder.path().display();
    let user = if is_root() { "user root;" } else { "" };
    let text = format!(
        "{user} daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {root}/body;
  proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u;
  scgi_temp_path {root}/s;
  server {{
    listen 127.0.0.1:{port}; root {root}/files;
    location / {{ dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on; }}
  }}
}}
"
    );
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("conf"), text).unwrap();
    let child = Command::new(program)
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(folder.path().join("conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running { child, _folder: folder };
    await_port(port);
    Some((running, format!("http://127.0.0.1:{port}/cache")))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A server of S3 with the bucket `shared`; `None` if there is none.
fn s3() -> Option<(Running, u16)> {
    let folder = Path::new(ROOT).join("target/moto");
    if !folder.join("moto/server.py").exists() {
        left_out("there is no server of S3; tests/remote/fetch brings it");
        return None;
    }
    let port = free_port();
    let child = Command::new("python3")
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
        .env("PYTHONPATH", &folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running { child, _folder: tempfile::tempdir().unwrap() };
    await_port(port);
    let made = ureq::put(format!("http://127.0.0.1:{port}/shared")).send_empty().unwrap();
    assert!(made.status().is_success());
    Some((running, port))
}

/// Two machines share a sweep and check it.
fn share(machine: impl Fn() -> Machine, check: &[&str]) {
    let (first, second) = (machine(), machine());
    let ran = first.run(&[]);
    assert_eq!((ran.counts(), ran.of("pushed").len()), ((7, 0), 7), "{:?}", ran.warnings());
    let ran = second.run(&[]);
    assert_eq!((ran.counts(), ran.of("pulled").len()), ((0, 7), 7), "{:?}", ran.warnings());
    assert!(first.objects() == second.objects());
    let audit = first.json(&[&["cache", "verify"], check].concat());
    assert_eq!((&audit["entries"], &audit["objects"]), (&7.into(), &7.into()), "{audit}");
    let status = machine().json(&["cache", "status", "p.yaml"]);
    let nodes = status["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["remote"] == true && node["here"] == false));
}

#[test]
fn nginx_shares_a_sweep() {
    let Some((_running, address)) = nginx() else { return };
    share(|| Machine::new(SWEEP, &address), &["p.yaml"]);
}

#[test]
fn s3_shares_a_sweep() {
    let Some((_running, port)) = s3() else { return };
    let machine = || {
        Machine::new(SWEEP, "s3://shared/a/b")
            .with("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"))
            .with("AWS_ALLOW_HTTP", "true")
            .with("AWS_ACCESS_KEY_ID", "somebody")
            .with("AWS_SECRET_ACCESS_KEY", "hunter2")
            .with("AWS_REGION", "us-east-1")
    };
    share(machine, &[]);
    // Without TLS, which was not allowed.
    let ran = machine().with("AWS_ALLOW_HTTP", "false").run(&[]);
    assert_eq!(ran.counts(), (7, 0));
    assert!(
        ran.warnings().len() == 1 && ran.warnings()[0].contains("https"),
        "{:?}",
        ran.warnings()
    );
    // A bucket that is not there.
    let ran = machine().with("POSTTRAIN_REMOTE", "s3://none/x").run(&[]);
    assert_eq!(ran.counts(), (7, 0));
    assert!(!ran.warnings().is_empty());
    assert!(ran.warnings().iter().all(|said| !said.contains("hunter2")), "{:?}", ran.warnings());
}
