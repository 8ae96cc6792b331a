//! Tests on the CUDA driver of `tests/fakecuda`. The library looks for a driver once in a process, so each such test
//! runs in a process of its own: this executable again, for one test, with the loader's path and `FAKECUDA_*` set.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use super::Run;

/// Which test a process is the child for.
const CHILD: &str = "TENSORSEAL_TEST_CHILD";

/// A folder with the driver under the names by which it is looked for. Built at the first call.
pub(crate) fn driver_dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(build).clone()
}

fn build() -> PathBuf {
    // Where this executable was built: `target/debug/deps/cuda-0123456789abcdef`.
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "fakecuda", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(built.status.success(), "the driver does not build: {}", String::from_utf8_lossy(&built.stderr));
    let library = target.join("debug/libfakecuda.so");
    assert!(library.is_file(), "no {}", library.display());
    let dir = target.join("fakecuda");
    fs::create_dir_all(&dir).unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        link(&library, &dir.join(name));
    }
    dir
}

/// A folder where libcufile is found, too. Comes before `driver_dir` where it is wanted: as `LD_LIBRARY_PATH`.
#[allow(dead_code, reason = "for those who read files so")]
pub(crate) fn cufile_dir() -> PathBuf {
    let driver = driver_dir();
    let dir = driver.join("cufile");
    fs::create_dir_all(&dir).unwrap();
    let library = fs::read_link(driver.join("libcuda.so.1")).unwrap();
    for name in ["libcuda.so", "libcuda.so.1", "libcufile.so.0"] {
        link(&library, &dir.join(name));
    }
    dir
}

/// A folder where NVIDIA's management library is found, too.
#[allow(dead_code, reason = "for those who measure")]
pub(crate) fn nvml_dir() -> PathBuf {
    let driver = driver_dir();
    let dir = driver.join("nvml");
    fs::create_dir_all(&dir).unwrap();
    let library = fs::read_link(driver.join("libcuda.so.1")).unwrap();
    for name in ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1"] {
        link(&library, &dir.join(name));
    }
    dir
}

/// Makes `name` a link to `library`, also while other processes do.
fn link(library: &Path, name: &Path) {
    if fs::read_link(name).is_ok_and(|to| to == library) {
        return;
    }
    let fresh = name.with_extension(format!("{}", std::process::id()));
    symlink(library, &fresh).unwrap();
    fs::rename(&fresh, name).unwrap();
}

/// Whether this process is to do what `test` is about. If not, `test` starts children.
pub(crate) fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|name| name == test)
}

/// A process for `test` (its path in this executable) on the driver. Unless `envs` say otherwise it adds plainly, so
/// that nothing is measured, and has no cache.
pub(crate) fn child(test: &str, envs: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    // Nothing of the caller's own: neither a real driver's settings nor a cache.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FAKECUDA_") {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", driver_dir()).env("TENSORSEAL_CUDA_POLICY", "plain");
    command.env("XDG_CACHE_HOME", "/dev/null/none").envs(envs.iter().copied());
    command
}

/// Runs it for at most so long, and then kills it: the code is `None` then.
pub(crate) fn finish(mut command: Command, most: Duration) -> Run {
    let room = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (room.path().join("out"), room.path().join("err"));
    let mut process = command
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let end = Instant::now() + most;
    let code = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > end {
            process.kill().unwrap();
            process.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Run { code, stdout: text(&stdout), stderr: text(&stderr) }
}

/// Runs `test` on the driver as `envs` describe it; it must succeed.
#[track_caller]
pub(crate) fn must_pass(test: &str, envs: &[(&str, &str)]) -> Run {
    let run = finish(child(test, envs), Duration::from_secs(120));
    let passed = run.code == Some(0) && run.stdout.contains("1 passed");
    assert!(passed, "{test} with {envs:?}: code {:?}\n{}\n{}", run.code, run.stdout, run.stderr);
    run
}
