//! Where the process begins. What it may take from its surroundings is taken here, once, and handed on.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Every connection needs a descriptor. Where the limit stays low, accepting rests whenever there are none left.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    // Code of ours names its provider; this is for whatever else in the process may ask for a default.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    node::cli::main(std::env::args_os(), environment.collect()).into()
}
