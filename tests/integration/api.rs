//! End-points over the store in memory: the answers, and the stored objects.

use http::Method;
use pollster::block_on;
use serde_json::{Value, json};
use strata::{
    digest::{Algorithm, Digest},
    manifest::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST},
    memory::MemoryObjects,
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestRegistry, ask, descriptor, digest, image, registry_of,
};

mod contents;
mod table;
mod uploads;

fn registry(settings: &[(&str, &str)]) -> TestRegistry<MemoryObjects> {
    registry_of(MemoryObjects::default(), settings)
}

const WRONG: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    })
}

/// A manifest whose subject is the image; one of the two has long annotations.
fn artifact(kind: &str) -> Value {
    let mut artifact = image();
    artifact["artifactType"] = json!(format!("application/vnd.example.{kind}"));
    artifact["subject"] = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    artifact["annotations"] =
        json!({ "kind": kind.repeat(if kind == "sbom" { 1_000 } else { 1 }) });
    artifact
}

/// The objects that exist before the request of a row.
#[derive(Clone, Copy)]
enum Given {
    Nothing,
    /// Both blobs of the image, in repository `a`.
    Blobs,
    /// The image, as `a:v1`, `a:v2` and `a:v3`.
    Image,
    /// Two manifests whose subject is the image, each pushed twice; a third was deleted. The image
    /// itself is absent.
    Referrers,
}

fn prepare(registry: &TestRegistry<MemoryObjects>, given: Given) {
    let push = |blob: &[u8]| {
        let answer = ask(
            registry,
            &Ask::new(&format!(
                "POST /v2/a/blobs/uploads/?digest={}",
                digest(blob)
            ))
            .body(blob),
        );
        assert_eq!(answer.status, 201);
    };
    match given {
        Given::Nothing => {}
        Given::Blobs => [LAYER, CONFIG].into_iter().for_each(push),
        Given::Image => {
            prepare(registry, Given::Blobs);
            for tag in ["v1", "v2", "v3"] {
                let answer = ask(
                    registry,
                    &Ask::new(&format!("PUT /v2/a/manifests/{tag}"))
                        .manifest(OCI_MANIFEST, &image()),
                );
                assert_eq!(answer.status, 201);
            }
        }
        Given::Referrers => {
            prepare(registry, Given::Blobs);
            for kind in ["sbom", "sbom", "signature", "signature", "deleted"] {
                let target = digest(artifact(kind).to_string().as_bytes());
                let push = Ask::new(&format!("PUT /v2/a/manifests/{target}"));
                assert_eq!(
                    ask(registry, &push.manifest(OCI_MANIFEST, &artifact(kind))).status,
                    201
                );
            }
            let deleted = digest(artifact("deleted").to_string().as_bytes());
            assert_eq!(
                ask(
                    registry,
                    &Ask::new(&format!("DELETE /v2/a/manifests/{deleted}"))
                )
                .status,
                202
            );
        }
    }
}

/// The keys of the store, with digests and random parts abbreviated.
fn keys(registry: &TestRegistry<MemoryObjects>) -> Vec<String> {
    let short = |part: &str| {
        if part.len() >= 32 {
            part[part.len() - 4..].to_owned()
        } else {
            part.to_owned()
        }
    };
    let shorten = |key: String| key.split('/').map(short).collect::<Vec<_>>().join("/");
    registry.store().keys().into_iter().map(shorten).collect()
}
