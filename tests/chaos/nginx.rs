//! nginx with the configuration that is shipped, before addresses of the test's own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{BOUND, env_var, wait_for};

/// `$1` nginx, `$2` its directory. Ends with the pipe on its standard input.
const SERVE_UNTIL_END_OF_INPUT: &str = r#"
"$1" -e "$2/error.log" -p "$2" -c "$2/nginx.conf" < /dev/null > "$2/out.log" 2>&1 &
nginx=$!
cat > /dev/null
kill -TERM "$nginx"
wait "$nginx"
"#;

/// A running nginx. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Nginx {
    address: SocketAddr,
    shell: Child,
    directory: TempDir,
}

impl Nginx {
    /// Where it is installed, or why it can't be started.
    pub(crate) fn find() -> Result<PathBuf, String> {
        let path = env_var("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|folder| folder.join("nginx"))
            .find(|program| program.is_file())
            .ok_or_else(|| "nginx was not found (Debian: nginx-light)".to_owned())
    }

    /// Starts it before three addresses and waits until an instance answers through it.
    #[track_caller]
    pub(crate) fn start(program: &Path, instances: [SocketAddr; 3]) -> Self {
        let directory = TempDir::with_prefix("faces-nginx-").expect("a temporary directory");
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let folder = directory.path().display();
        fs::write(directory.path().join("faces.conf"), configuration(address, instances, &folder))
            .expect("the configuration is written");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .collect();
        // Its workers keep the user that owns the directory.
        let main = format!(
            "user root;\ndaemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n{temporary}\ninclude {folder}/faces.conf;\n}}\n"
        );
        fs::write(directory.path().join("nginx.conf"), main).expect("the configuration is written");
        let shell = Command::new("/bin/sh")
            .args(["-c", SERVE_UNTIL_END_OF_INPUT, "faces-test-nginx"])
            .args([program, directory.path()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let nginx = Self { address, shell, directory };
        wait_for("nginx", BOUND, || {
            let answer = ureq::get(format!("http://{address}/readyz")).call().ok()?;
            (answer.status() == 200).then_some(())
        });
        nginx
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let ended = self.shell.wait();
        let log = fs::read_to_string(self.directory.path().join("error.log"));
        let is_fine = ended.is_ok_and(|status| status.success());
        assert!(is_fine || std::thread::panicking(), "nginx: {log:?}");
    }
}

/// `deploy/nginx/faces.conf` with these addresses.
fn configuration(
    address: SocketAddr,
    instances: [SocketAddr; 3],
    folder: &impl std::fmt::Display,
) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx/faces.conf");
    let mut text = fs::read_to_string(path).expect("the configuration that is shipped");
    let mut replace = |old: &str, new: &str| {
        assert_eq!(text.matches(old).count(), 1, "deploy/nginx/faces.conf has not one `{old}`");
        text = text.replace(old, new);
    };
    replace("listen 80;", &format!("listen {address};"));
    replace("/var/log/nginx/access.log", &format!("{folder}/access.log"));
    for (number, instance) in instances.iter().enumerate() {
        replace(&format!("server faces{}:8080", number + 1), &format!("server {instance}"));
    }
    text
}
