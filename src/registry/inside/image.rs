//! Images: their layers, and the checks of their configuration.

use std::rc::Rc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    layer::tree::{self},
    ledger::MemoryKind,
    name::{Name, Reference},
    platform::Platform,
    registry::{
        inside::{Inside, file::refused, inspection::Inspection, layer::Opened, stack::Stack},
        pull::Pull,
    },
    route::PathPage,
    store::{Bytes as _, trace::Trace},
};

/// The image that a request asks for.
pub(in crate::registry) struct ImageOf<'a> {
    pub(in crate::registry) name: &'a Name,
    pub(in crate::registry) reference: &'a Reference,
    pub(in crate::registry) platform: Option<&'a str>,
}

/// The fields that are read of a manifest of an image, or of an index of images.
#[derive(Deserialize)]
struct ImageManifest {
    #[serde(default)]
    config: Option<ImageDescriptor>,
    #[serde(default)]
    layers: Vec<ImageDescriptor>,
    #[serde(default)]
    manifests: Vec<ImageDescriptor>,
}

#[derive(Deserialize)]
struct ImageDescriptor {
    digest: Digest,
    platform: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// The fields that are read of the configuration of an image.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

impl Target {
    fn name(&self) -> String {
        let variant = self.variant.as_deref().map(|variant| format!("/{variant}"));
        format!(
            "{}/{}{}",
            self.os,
            self.architecture,
            variant.unwrap_or_default()
        )
    }

    /// Whether this is the requested platform. A request without a variant matches any variant.
    fn is(&self, asked: &str) -> bool {
        let name = self.name();
        name == asked
            || name
                .strip_prefix(asked)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

/// The platform that is selected from an index if the request names none.
const DEFAULT_PLATFORM: &str = "linux/amd64";

/// The most layers of an image: Linux (overlayfs) stacks 500 file systems, and Docker stops at 127.
const MAX_LAYERS: usize = 500;

/// The memory of a manifest and its parsed form, in bytes for each byte of the manifest.
/// Descriptors that have only a digest are the heaviest.
const WEIGHT: u64 = 5;

impl<P: Platform> Inside<P> {
    /// A file of an image, or the entries of one of its directories.
    pub(in crate::registry) async fn image_file(
        self: &Rc<Self>,
        pull: &Pull<'_>,
        image: &ImageOf<'_>,
        path: &[u8],
        page: &PathPage,
        trace: &Trace<P::Bytes>,
    ) -> Result<Inspection<P>, Error> {
        tree::check_path(path).map_err(refused)?;
        let document = self.image(image, trace).await?;
        if document.layers.len() > MAX_LAYERS {
            let found = format!(
                "an image of {} layers, at most {MAX_LAYERS} are supported",
                document.layers.len()
            );
            return Err(Error::new(Code::ManifestInvalid, found)
                .with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
        let mut stack = Stack::new(self, image.name, trace);
        let mut diff_ids = Vec::with_capacity(document.layers.len());
        for part in &document.layers {
            if let Some(diff_id) = stack.repeat(&part.digest) {
                diff_ids.push(diff_id);
                continue;
            }
            match self.open_layer(image.name, &part.digest, trace).await? {
                Opened::Layer(layer) => {
                    diff_ids.push(layer.index.diff_id.clone());
                    stack.push(layer).await?;
                }
                Opened::Indexing(progress) => {
                    return Ok(Inspection::Indexing(part.digest.clone(), progress));
                }
            }
        }
        self.check_diff_ids(image.name, &document, &diff_ids, trace)
            .await?;
        self.file(pull, &stack, path, page, trace).await
    }

    /// The manifest of an image: the requested one, or the one that the requested index lists for
    /// the platform.
    async fn image(
        &self,
        image: &ImageOf<'_>,
        trace: &Trace<P::Bytes>,
    ) -> Result<ImageManifest, Error> {
        let read = async |reference: &Reference| {
            let (digest, content) = self
                .mirror
                .read_manifest(image.name, reference, trace)
                .await?;
            let needed = WEIGHT * content.bytes.len();
            let lease = self
                .ledger
                .wait_if_large(&self.host, MemoryKind::Wasm, needed);
            let lease = lease.await?;
            let document: ImageManifest =
                serde_json::from_slice(&content.bytes.to_vec()).map_err(|error| {
                    Error::new(Code::ManifestInvalid, format!("{digest}: {error}"))
                        .with_status(StatusCode::UNPROCESSABLE_ENTITY)
                })?;
            Ok::<_, Error>((digest, document, lease))
        };
        let (digest, document, lease) = read(image.reference).await?;
        if document.manifests.is_empty() {
            return Ok(document);
        }
        // An entry without a known platform is about an image, and is no image itself.
        let images: Vec<(&ImageDescriptor, &Target)> = document
            .manifests
            .iter()
            .filter_map(|part| Some((part, part.platform.as_ref()?)))
            .filter(|(_, platform)| platform.os != "unknown")
            .collect();
        let asked = image.platform.unwrap_or(DEFAULT_PLATFORM);
        let chosen = match (images.as_slice(), image.platform) {
            ([(only, _)], None) => Some(only),
            (images, _) => images
                .iter()
                .find(|(_, platform)| platform.is(asked))
                .map(|(part, _)| part),
        };
        let chosen = chosen.ok_or_else(|| {
            let names: Vec<_> = images.iter().map(|(_, platform)| platform.name()).collect();
            let found =
                format!("{digest} has no image for {asked}; select another one by ?platform=");
            Error::new(Code::ManifestUnknown, found).with_detail(json!({ "platforms": names }))
        })?;
        let chosen = Reference::Digest(chosen.digest.clone());
        // Release the index before its image is read.
        drop((document, lease));
        let (digest, document, _lease) = read(&chosen).await?;
        if document.manifests.is_empty() {
            Ok(document)
        } else {
            let found = format!("{digest} is an index within an index");
            Err(Error::new(Code::ManifestInvalid, found)
                .with_status(StatusCode::UNPROCESSABLE_ENTITY))
        }
    }

    /// Compares the digests of decompressed layers with the `diff_ids`
    /// of the image's configuration.
    async fn check_diff_ids(
        &self,
        name: &Name,
        document: &ImageManifest,
        diff_ids: &[Digest],
        trace: &Trace<P::Bytes>,
    ) -> Result<(), Error> {
        let Some(config) = &document.config else {
            return Ok(());
        };
        let Some(bytes) = self.mirror.read_blob(name, &config.digest, trace).await? else {
            return Ok(());
        };
        // The configuration of an artifact may be any document,
        // so one that does not parse proves nothing.
        let Ok(Config { rootfs }) = serde_json::from_slice(&bytes) else {
            return Ok(());
        };
        for ((layer, found), said) in document.layers.iter().zip(diff_ids).zip(&rootfs.diff_ids) {
            if found.algorithm() == said.algorithm() && found != said {
                let found = format!(
                    "layer {} decompresses to {found}, but the configuration of the image says {said}",
                    layer.digest
                );
                return Err(Error::new(Code::LayerInvalid, found));
            }
        }
        Ok(())
    }
}
