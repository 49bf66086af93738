//! Turns the .proto files into Rust without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/shoal/peer/v1/peer.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure()
        // Link carries frames as they are: what decodes them is frame.rs and nothing else.
        .extern_path(".shoal.peer.v1.Frame", "crate::codec::Sealed")
        .codec_path("crate::codec::Bounded")
        .build_transport(false)
        .bytes(".")
        // They carry a token, the cluster's secrets and a key, which must not be printable.
        .skip_debug(["EnrolRequest", "EnrolReply", "Signer"])
        .compile_fds(descriptors)?;
    Ok(())
}
