//! The actors of a registry: they push, pull, delete, sweep and scrub.

use std::rc::Rc;

use serde_json::{Value, json};
use strata::manifest::{OCI_INDEX, OCI_MANIFEST};
use strata_support::{Answer, Ask, CONFIG, LAYER, ask_now, descriptor, digest, image, try_ask_now};

use super::{
    play::Running,
    world::{Promises, Registry, World},
};

pub(crate) async fn done(registry: &Registry, request: &Ask) -> Answer {
    ask_now(registry, request).await
}

/// The same, for a request after which each tag leads to a manifest once it is answered.
async fn answered(promises: &Promises, registry: &Registry, request: &Ask) -> Answer {
    promises.unanswered.set(promises.unanswered.get() + 1);
    let answer = done(registry, request).await;
    promises.unanswered.set(promises.unanswered.get() - 1);
    answer
}

async fn push_blob(registry: &Registry, name: &str, blob: &[u8]) -> bool {
    let line = format!("POST /v2/{name}/blobs/uploads/?digest={}", digest(blob));
    // One retry, for a failure of the store or a deleting mark.
    for _ in 0..2 {
        if done(registry, &Ask::new(&line).body(blob)).await.status == 201 {
            return true;
        }
    }
    false
}

async fn push_by_patch(registry: &Registry, name: &str, blob: &[u8], chunk: usize) -> bool {
    match send_chunks(registry, name, blob, chunk).await {
        Some(location) => close(registry, &location, blob).await,
        None => false,
    }
}

/// Begins an upload and sends all of its chunks; returns the location at which it continues.
pub(crate) async fn send_chunks(
    registry: &Registry,
    name: &str,
    blob: &[u8],
    chunk: usize,
) -> Option<String> {
    let line = format!("POST /v2/{name}/blobs/uploads/");
    let mut last = done(registry, &Ask::new(&line)).await;
    for chunk in blob.chunks(chunk) {
        let location = last.header("location").map(str::to_owned)?;
        last = send(registry, &location, chunk).await;
    }
    last.header("location").map(str::to_owned)
}

async fn send(registry: &Registry, location: &str, chunk: &[u8]) -> Answer {
    let line = format!("PATCH {location}");
    done(registry, &Ask::new(&line).stream(chunk)).await
}

/// Closes an upload, with one retry.
async fn close(registry: &Registry, location: &str, blob: &[u8]) -> bool {
    let mark = if location.contains('?') { '&' } else { '?' };
    let close = format!("PUT {location}{mark}digest={}", digest(blob));
    for _ in 0..2 {
        if done(registry, &Ask::new(&close)).await.status == 201 {
            return true;
        }
    }
    false
}

/// Pushes the manifest. Records the promise if the push was accepted and no deletion overlapped it.
/// Otherwise returns the status of the refusal.
async fn push_manifest(
    promises: &Promises,
    registry: &Registry,
    name: &str,
    tag: &str,
) -> Result<(), u16> {
    let line = format!("PUT /v2/{name}/manifests/{tag}");
    let mut refused = 0;
    for _ in 0..2 {
        let deletions = promises.deletions.get();
        let request = Ask::new(&line).manifest(OCI_MANIFEST, &image());
        refused = answered(promises, registry, &request).await.status;
        if refused == 201 {
            if deletions == promises.deletions.get() && deletions.is_multiple_of(2) {
                promises.accepted.borrow_mut().insert(name.to_owned());
            }
            return Ok(());
        }
    }
    Err(refused)
}

/// Pushes the image to a repository, its layer in chunks of this size or whole.
fn push(world: &World, registry: Registry, name: &'static str, chunk: Option<usize>) -> Running {
    let (promises, host, grace) = (world.promises.clone(), world.host.clone(), world.grace);
    Box::pin(async move {
        let begun = host.now.get();
        let has_layer = match chunk {
            Some(chunk) => push_by_patch(&registry, name, LAYER, chunk).await,
            None => push_blob(&registry, name, LAYER).await,
        };
        let has_both = push_blob(&registry, name, CONFIG).await && has_layer;
        let is_accepted = push_manifest(&promises, &registry, name, "v1").await;
        let took = host.now.get().since(begun);
        if has_both && is_accepted.is_err_and(|status| status == 404) && took < grace {
            let wrong = format!("{name} has not the blobs that were pushed to it {took:?} ago");
            *promises.wrong.borrow_mut() = Some(wrong);
        }
    })
}

pub(crate) fn whole_to_a(world: &World, registry: Registry) -> Running {
    push(world, registry, "a", None)
}

pub(crate) fn whole_to_b(world: &World, registry: Registry) -> Running {
    push(world, registry, "b", None)
}

pub(crate) fn patch_to_a(world: &World, registry: Registry) -> Running {
    push(world, registry, "a", Some(LAYER.len()))
}

pub(crate) fn patch_to_b(world: &World, registry: Registry) -> Running {
    push(world, registry, "b", Some(4))
}

/// Pushes the image to `a`, its layer in three extents.
pub(crate) fn chunks_to_a(world: &World, registry: Registry) -> Running {
    push(world, registry, "a", Some(4))
}

/// Pulls the layer from `a`, in which it stays. A pull of less than the grace period must get all
/// bytes, unless an operation fails.
pub(crate) fn pull_layer(world: &World, registry: Registry) -> Running {
    let (promises, host) = (world.promises.clone(), world.host.clone());
    let (chance, grace) = (world.chance.clone(), world.grace);
    Box::pin(async move {
        let line = format!("GET /v2/a/blobs/{}", digest(LAYER));
        for _ in 0..2 {
            let begun = host.now.get();
            let answer = try_ask_now(&registry, &Ask::new(&line)).await;
            let took = host.now.get().since(begun);
            let is_whole =
                (answer.as_ref()).is_ok_and(|answer| answer.status == 200 && answer.body == LAYER);
            if !is_whole && took < grace && !chance.has_hit() {
                let wrong = format!("{line} was broken within {took:?}: {answer:?}");
                *promises.wrong.borrow_mut() = Some(wrong);
            }
        }
    })
}

pub(crate) fn mount_to_c(world: &World, registry: Registry) -> Running {
    let promises = world.promises.clone();
    Box::pin(async move {
        for blob in [LAYER, CONFIG] {
            let mount = format!("POST /v2/c/blobs/uploads/?mount={}&from=a", digest(blob));
            done(&registry, &Ask::new(&mount)).await;
        }
        let _ = push_manifest(&promises, &registry, "c", "v1").await;
    })
}

pub(crate) fn manifest_to_a(world: &World, registry: Registry) -> Running {
    let promises = world.promises.clone();
    Box::pin(async move {
        let _ = push_manifest(&promises, &registry, "a", "v1").await;
    })
}

/// Closes the upload that was begun in `a`, and pushes the rest of the image.
pub(crate) fn close_in_a(world: &World, registry: Registry) -> Running {
    let (promises, location) = (world.promises.clone(), world.location.borrow().clone());
    Box::pin(async move {
        close(&registry, &location, LAYER).await;
        push_blob(&registry, "a", CONFIG).await;
        let _ = push_manifest(&promises, &registry, "a", "v1").await;
    })
}

/// Sends the layer to the upload that was begun in `a`, closes it, and pushes the rest of the
/// image.
pub(crate) fn send_in_a(world: &World, registry: Registry) -> Running {
    let (promises, location) = (world.promises.clone(), world.location.borrow().clone());
    Box::pin(async move {
        let sent = send(&registry, &location, LAYER).await;
        let next = sent.header("location").unwrap_or(&location);
        close(&registry, next, LAYER).await;
        push_blob(&registry, "a", CONFIG).await;
        let _ = push_manifest(&promises, &registry, "a", "v1").await;
    })
}

/// Cancels the upload that was begun in `a`.
pub(crate) fn cancel_in_a(world: &World, registry: Registry) -> Running {
    let location = world.location.borrow().clone();
    Box::pin(async move {
        done(&registry, &Ask::new(&format!("DELETE {location}"))).await;
    })
}

pub(crate) fn delete_manifest(world: &World, registry: Registry) -> Running {
    let (promises, manifest) = (world.promises.clone(), world.image.digest.clone());
    Box::pin(async move {
        promises.deletions.set(promises.deletions.get() + 1);
        promises.accepted.borrow_mut().remove("a");
        let line = format!("DELETE /v2/a/manifests/{manifest}");
        answered(&promises, &registry, &Ask::new(&line)).await;
        // This deletion may have removed images that were pushed meanwhile.
        promises.deletions.set(promises.deletions.get() + 1);
    })
}

pub(crate) fn delete_blob(_: &World, registry: Registry) -> Running {
    Box::pin(async move {
        let line = format!("DELETE /v2/a/blobs/{}", digest(LAYER));
        done(&registry, &Ask::new(&line)).await;
    })
}

pub(crate) fn sweep_once(_: &World, registry: Registry) -> Running {
    Box::pin(async move {
        done(&registry, &Ask::new("POST /v2/_strata/sweep")).await;
    })
}

pub(crate) fn sweep(_: &World, registry: Registry) -> Running {
    Box::pin(async move {
        for _ in 0..2 {
            done(&registry, &Ask::new("POST /v2/_strata/sweep")).await;
        }
    })
}

/// Pushes the image again by a tag; from then on it must stay.
pub(crate) fn tag_in_a(world: &World, registry: Registry) -> Running {
    let promises = world.promises.clone();
    Box::pin(async move {
        let _ = push_manifest(&promises, &registry, "a", "v2").await;
    })
}

/// An index that lists the image.
fn index() -> Value {
    let listed = descriptor(OCI_MANIFEST, image().to_string().as_bytes());
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed] })
}

/// Pushes an index that lists the image; from then on the image must stay, unless the answer warns
/// that it is absent.
pub(crate) fn list_in_a(world: &World, registry: Registry) -> Running {
    let promises = world.promises.clone();
    Box::pin(async move {
        let request = Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index());
        for _ in 0..2 {
            let answer = done(&registry, &request).await;
            if answer.status == 201 {
                if answer.header("warning").is_none() {
                    promises.accepted.borrow_mut().insert("a".to_owned());
                }
                return;
            }
        }
    })
}

/// Deletes the index that lists the image.
pub(crate) fn delete_index_in_a(_: &World, registry: Registry) -> Running {
    Box::pin(async move {
        let line = format!(
            "DELETE /v2/a/manifests/{}",
            digest(index().to_string().as_bytes())
        );
        done(&registry, &Ask::new(&line)).await;
    })
}

/// Pushes the image without a tag, as a child of an index that was pushed before it.
pub(crate) fn child_to_a(world: &World, registry: Registry) -> Running {
    let (promises, manifest) = (world.promises.clone(), world.image.digest.clone());
    Box::pin(async move {
        push_blob(&registry, "a", LAYER).await;
        push_blob(&registry, "a", CONFIG).await;
        let _ = push_manifest(&promises, &registry, "a", &manifest.to_string()).await;
    })
}

/// Pushes the image until a push is accepted that began when no blob was damaged: earlier pushes
/// promise nothing about damaged blobs.
fn heal(world: &World, registry: Registry, name: &'static str, chunk: Option<usize>) -> Running {
    let promises = world.promises.clone();
    let is_sound = world.look();
    Box::pin(async move {
        for _ in 0..3 {
            let was_sound = is_sound();
            let before = promises.accepted.borrow().clone();
            match chunk {
                Some(chunk) => push_by_patch(&registry, name, LAYER, chunk).await,
                None => push_blob(&registry, name, LAYER).await,
            };
            push_blob(&registry, name, CONFIG).await;
            let is_accepted = push_manifest(&promises, &registry, name, "v1").await;
            if is_accepted.is_ok() && was_sound {
                return;
            }
            if !before.contains(name) {
                promises.accepted.borrow_mut().remove(name);
            }
        }
    })
}

pub(crate) fn heal_in_a(world: &World, registry: Registry) -> Running {
    heal(world, registry, "a", Some(LAYER.len()))
}

pub(crate) fn heal_in_b(world: &World, registry: Registry) -> Running {
    heal(world, registry, "b", None)
}

pub(crate) fn heal_in_c(world: &World, registry: Registry) -> Running {
    heal(world, registry, "c", Some(4))
}

pub(crate) fn scrub(_: &World, registry: Registry) -> Running {
    Box::pin(async move {
        for _ in 0..2 {
            done(&registry, &Ask::new("POST /v2/_strata/scrub")).await;
        }
    })
}

/// The objects that are pulled.
#[derive(Clone, Copy)]
enum Pulled {
    Image,
    Blobs,
    Manifest,
}

/// Pulls from a mirror. Every body must be right, and blobs that are stored at that moment must
/// stay.
fn pull(world: &World, registry: Registry, name: &'static str, pulled: Pulled) -> Running {
    let promises = world.promises.clone();
    let (manifest, blobs) = (world.image.clone(), world.blobs().map(Rc::clone));
    let hold = world.hold();
    Box::pin(async move {
        let blobs = (blobs.each_ref()).map(|blob| (format!("blobs/{}", blob.digest), &blob.bytes));
        let document = ("manifests/v1".to_owned(), &manifest.bytes);
        let (manifest, blobs) = match pulled {
            Pulled::Image => (Some(document), &blobs[..]),
            Pulled::Blobs => (None, &blobs[..]),
            Pulled::Manifest => (Some(document), &blobs[..0]),
        };
        for (path, bytes) in manifest.iter().chain(blobs) {
            // One retry, for a failure of the upstream or the store.
            for _ in 0..2 {
                let line = format!("GET /v2/{name}/{path}");
                let Ok(answer) = try_ask_now(&registry, &Ask::new(&line)).await else {
                    continue;
                };
                hold();
                if answer.status == 200 {
                    if answer.body != **bytes {
                        *promises.wrong.borrow_mut() = Some(format!("{line} has other bytes"));
                    }
                    break;
                }
            }
        }
    })
}

pub(crate) fn pull_image(world: &World, registry: Registry) -> Running {
    pull(world, registry, world.names[0], Pulled::Image)
}

pub(crate) fn pull_blobs(world: &World, registry: Registry) -> Running {
    pull(world, registry, world.names[0], Pulled::Blobs)
}

pub(crate) fn pull_manifest(world: &World, registry: Registry) -> Running {
    pull(world, registry, world.names[0], Pulled::Manifest)
}

/// Pulls the blobs from another repository of the same upstream.
pub(crate) fn pull_blobs_elsewhere(world: &World, registry: Registry) -> Running {
    pull(world, registry, "up.example/other", Pulled::Blobs)
}

pub(crate) fn pull_in_app(world: &World, registry: Registry) -> Running {
    pull(world, registry, APP, Pulled::Image)
}

/// Pushes the image to a repository that is mirrored by other settings.
pub(crate) fn whole_to_app(world: &World, registry: Registry) -> Running {
    push(world, registry, APP, None)
}

/// Tries to read a layer through a mirrored repository in every way, although its bytes were not
/// hashed for it. No reply may contain the layer, and no mount or manifest that depends on it may
/// succeed.
fn spy(world: &World, registry: Registry, name: &'static str) -> Running {
    let (promises, layer, image) = (
        world.promises.clone(),
        world.layer.clone(),
        world.image.clone(),
    );
    let tell = move |found: String| {
        promises.wrong.borrow_mut().get_or_insert(found);
    };
    Box::pin(async move {
        let blob = &layer.digest;
        for reference in ["v1".to_owned(), image.digest.to_string()] {
            let line = format!("GET /v2/{name}/manifests/{reference}");
            let _ = try_ask_now(&registry, &Ask::new(&line)).await;
        }
        let line = format!("GET /v2/{name}/blobs/{blob}");
        let get = Ask::new(&line);
        for request in [get.clone(), get.clone().header("range", "bytes=0-"), get] {
            if let Ok(answer) = try_ask_now(&registry, &request).await
                && answer.body == layer.bytes
            {
                tell(format!("{line} answers a private blob"));
            }
        }
        let mount = format!("POST /v2/c/blobs/uploads/?mount={blob}&from={name}");
        if done(&registry, &Ask::new(&mount)).await.status == 201 {
            tell(format!("{mount} mounts a private blob"));
        }
        push_blob(&registry, "c", CONFIG).await;
        let put = Ask::new("PUT /v2/c/manifests/v1").header("content-type", OCI_MANIFEST);
        if done(&registry, &put.stream(&image.bytes)).await.status == 201 {
            tell("a manifest in c was accepted, which names a private blob".to_owned());
        }
    })
}

/// In a repository whose upstream says that it has the layer, and sends other bytes.
pub(crate) fn spy_in_evil(world: &World, registry: Registry) -> Running {
    spy(world, registry, EVIL)
}

/// In a repository whose upstream has the layer only in another repository.
pub(crate) fn spy_in_none(world: &World, registry: Registry) -> Running {
    spy(world, registry, NONE)
}

/// A mirrored repository of an honest upstream.
pub(crate) const APP: &str = "up.example/app";

/// A mirrored repository whose upstream says that it has the layer, and sends other bytes.
pub(crate) const EVIL: &str = "other.example/evil";

/// A mirrored repository without the layer, which another repository of its upstream has.
pub(crate) const NONE: &str = "up.example/none";
