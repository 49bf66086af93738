//! Programs that people call gateways with, where they are installed.
//!
//! A test that needs one that is not there says so and passes; with `SHOAL_REQUIRE_PEERS=1` it fails.

use crate::wait::within;
use std::process::{Output, Stdio};
use tokio::process::Command;

/// Runs a program to its end. `None` where it is not installed.
pub async fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).env("no_proxy", "*");
    match within(program, command.output()).await {
        Ok(output) => Some(output),
        Err(_) if std::env::var_os("SHOAL_REQUIRE_PEERS").is_some_and(|value| value == "1") => {
            panic!("{program} is required and not installed")
        }
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a test that is skipped says so where people look")]
            {
                eprintln!("SKIPPED what needs {program}: {error}");
            }
            None
        }
    }
}

/// What a program printed. Panics where it failed.
pub fn printed(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}
