//! A store, the registries of its actors, and the promises that they were given.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use pollster::block_on;
use serde_json::Value;
use strata::{
    digest::Digest,
    manifest::OCI_MANIFEST,
    memory::{MemoryObjects, MemoryValues},
    metrics::Metrics,
    registry,
    store::{Content, Meta, Objects as _, PutOptions, StoreError},
    upload::UploadId,
};
use strata_support::{
    Ask, CONFIG, TestHost, TestRegistry, ask, descriptor, digest, key, settings_of,
    watched::{Verdict, Watched},
};

use super::play::{Chance, Fault, Scenario};

pub(crate) type Registry = Rc<TestRegistry<Watched>>;

/// All saved objects, and the state of the random numbers.
pub(crate) type Saved = (Vec<(String, Meta, Vec<u8>)>, u64);

/// A store, the registries of its actors, and the promises that they were given.
pub(crate) struct World {
    pub(crate) host: TestHost,
    pub(crate) store: Watched,
    pub(crate) registries: RefCell<Vec<Registry>>,
    pub(crate) promises: Promises,
    /// The repositories.
    pub(crate) names: &'static [&'static str],
    /// The layer of the image that is pushed and pulled.
    pub(crate) layer: Rc<Blob>,
    pub(crate) config: Rc<Blob>,
    /// The manifest of the image.
    pub(crate) image: Rc<Blob>,
    pub(crate) grace: Duration,
    /// The faults that hit the actors.
    pub(crate) chance: Rc<Chance>,
    /// The location of an upload that was begun.
    pub(crate) location: RefCell<String>,
    settings: Vec<(&'static str, String)>,
    /// The settings of the isolates that were started later.
    later: Vec<(&'static str, String)>,
    /// The metrics of all registries: nothing here reads them, and making them takes longer than
    /// the rest of a registry.
    metrics: Rc<Metrics>,
}

/// Bytes with their digest and key, which each schedule needs many times.
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    /// The key as a blob.
    pub(crate) key: String,
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        let digest = digest(&bytes);
        let key = key::blob(&digest);
        Self { bytes, digest, key }
    }
}

/// The rules by which everyone may do everything, as a user may without rules.
const EVERYTHING: &str = r#"[{
    "repositories": ["**"],
    "who": ["everyone"],
    "may": ["pull", "push", "overwrite", "delete", "administer"]
}]"#;

/// The promises that were given, and the replies that break one.
#[derive(Clone, Default)]
pub(crate) struct Promises {
    /// Repositories whose image was accepted, and that no actor has begun to delete since.
    pub(crate) accepted: Rc<RefCell<BTreeSet<String>>>,
    /// Blobs that were stored while a stored manifest held them.
    pub(crate) held: Rc<RefCell<BTreeSet<String>>>,
    /// How many deletions of an image have begun, plus how many have ended.
    pub(crate) deletions: Rc<Cell<u64>>,
    /// How many pushes and deletions of a manifest have begun and were not answered.
    pub(crate) unanswered: Rc<Cell<u64>>,
    /// A wrong reply.
    pub(crate) wrong: Rc<RefCell<Option<String>>>,
}

impl Promises {
    /// Resets everything to the moment at which these repositories were accepted.
    pub(crate) fn begin(&self, accepted: &BTreeSet<String>) {
        self.accepted.borrow_mut().clone_from(accepted);
        self.held.borrow_mut().clear();
        self.deletions.set(0);
        self.unanswered.set(0);
        self.wrong.take();
    }
}

/// The state of a blob.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum State {
    Absent,
    Aside,
    Whole,
    /// A part is missing, or the bytes are wrong.
    Wrong(String),
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let host = TestHost::default();
        let chance = Rc::<Chance>::default();
        let decides = chance.clone();
        let store = Watched::new(
            MemoryObjects::timed(host.now.clone()),
            move |operation, key| {
                let error = StoreError::Failed("on purpose".to_owned());
                match decides.ask(operation, key) {
                    Some(Fault::Lost) => Verdict::Lost(error),
                    Some(Fault::Kept) => Verdict::Kept(error),
                    Some(Fault::KilledBefore | Fault::KilledAfter) | None => Verdict::Done,
                }
            },
        );
        let common = vec![
            // Isolates cache nothing, so only the store counts.
            ("STRATA_HOT_BYTES", "0".to_owned()),
            ("STRATA_WARM_SECONDS", "0".to_owned()),
            ("STRATA_ABSENT_SECONDS", "0".to_owned()),
            ("STRATA_LOG", "errors".to_owned()),
            // Signing in does no operation of the store, so everyone may do everything.
            ("STRATA_USERS", r#"{"users": {}}"#.to_owned()),
            ("STRATA_RULES", EVERYTHING.to_owned()),
            ("STRATA_GRACE_SECONDS", scenario.grace.as_secs().to_string()),
        ];
        let with = |settings: &[(&'static str, &'static str)]| {
            let mut all = common.clone();
            all.extend(
                settings
                    .iter()
                    .map(|(key, value)| (*key, (*value).to_owned())),
            );
            all
        };
        let settings = with(scenario.settings);
        let later = with(scenario.later.unwrap_or(scenario.settings));
        let layer = (scenario.layer)();
        let image = image_of(&layer).to_string().into_bytes();
        let world = Self {
            host,
            store,
            registries: RefCell::default(),
            promises: Promises::default(),
            names: scenario.names,
            layer: Rc::new(layer.into()),
            config: Rc::new(CONFIG.to_vec().into()),
            image: Rc::new(image.into()),
            grace: scenario.grace,
            chance,
            location: RefCell::default(),
            settings,
            later,
            metrics: Rc::new(Metrics::new().unwrap()),
        };
        world.start();
        world
    }

    /// Starts new registries for all actors.
    pub(crate) fn start(&self) {
        let registry = |number| {
            let settings = if number < Self::LATER {
                &self.settings
            } else {
                &self.later
            };
            let settings: Vec<(&str, &str)> = settings
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            Rc::new(registry::Registry::new(
                self.store.clone(),
                MemoryValues::default(),
                self.host.clone(),
                settings_of(&settings),
                self.metrics.clone(),
            ))
        };
        *self.registries.borrow_mut() = (0..6).map(registry).collect();
    }

    /// The first of the isolates that were started later.
    pub(crate) const LATER: usize = 3;

    /// The registry of an actor.
    pub(crate) fn registry(&self, number: usize) -> Registry {
        let registries = self.registries.borrow();
        registries[number % registries.len()].clone()
    }

    /// The blobs that are pushed and pulled: the layer and the configuration.
    pub(crate) fn blobs(&self) -> [&Rc<Blob>; 2] {
        [&self.layer, &self.config]
    }

    /// Saves all objects.
    pub(crate) fn save(&self) -> Saved {
        let memory = &self.store.memory;
        let saved = memory.keys().into_iter().map(|key| {
            let meta = block_on(memory.head(&key)).unwrap().unwrap();
            let bytes = memory.bytes(&key).unwrap();
            (key, meta, bytes)
        });
        (saved.collect(), self.host.random.get())
    }

    /// Restores all objects.
    pub(crate) fn restore(&self, (objects, random): &Saved) {
        let memory = &self.store.memory;
        block_on(memory.delete(&memory.keys())).unwrap();
        let now = self.host.now.get();
        for (key, meta, bytes) in objects {
            self.host.now.set(meta.uploaded);
            let options = PutOptions {
                metadata: &meta.metadata,
                ..PutOptions::default()
            };
            block_on(memory.put(key, Content::Bytes(bytes.clone()), options)).unwrap();
        }
        self.host.now.set(now);
        self.host.random.set(*random);
        self.host.log.borrow_mut().clear();
    }

    /// A round of the sweep, after the grace period has passed.
    pub(crate) fn sweep(&self) {
        self.host.pass(self.grace);
        self.to_the_end("POST /v2/_strata/sweep");
    }

    /// Requests steps until none is left.
    pub(crate) fn to_the_end(&self, line: &str) {
        let registry = self.registry(0);
        for _ in 0..50 {
            if ask(&registry, &Ask::new(line)).status == 200 {
                return;
            }
        }
        panic!("{line} comes to no end");
    }

    /// The state of a blob.
    pub(crate) fn state(&self, blob: &Blob) -> State {
        state_of(&self.store.memory, blob)
    }

    /// A function that says whether no blob is damaged, at any time.
    pub(crate) fn look(&self) -> impl Fn() -> bool + use<> {
        let (memory, blobs) = (self.store.memory.clone(), self.blobs().map(Rc::clone));
        move || {
            !blobs
                .iter()
                .any(|blob| matches!(state_of(&memory, blob), State::Wrong(_)))
        }
    }

    /// A function that notes which blobs are stored while the manifest is. Its grants were written
    /// before the manifest, so the blobs stay from then on.
    pub(crate) fn hold(&self) -> impl Fn() + use<> {
        let (memory, blobs) = (self.store.memory.clone(), self.blobs().map(Rc::clone));
        let (promises, manifest) = (self.promises.clone(), self.manifest_in(self.names[0]));
        move || {
            if !is_stored(&memory, &manifest) {
                return;
            }
            for blob in &blobs {
                if is_stored(&memory, &blob.key) {
                    promises.held.borrow_mut().insert(blob.key.clone());
                }
            }
        }
    }

    fn manifest_in(&self, name: &str) -> String {
        key::manifest(&name.parse().unwrap(), &self.image.digest)
    }

    /// Whether a repository has the manifest.
    pub(crate) fn has_manifest(&self, name: &str) -> bool {
        is_stored(&self.store.memory, &self.manifest_in(name))
    }

    /// A broken promise to clients that push, by the stored objects: a manifest stays until it is
    /// deleted, and is whole while it is stored.
    pub(crate) fn lost(&self) -> Option<String> {
        for name in self.names {
            if !self.has_manifest(name) {
                if self.promises.accepted.borrow().contains(*name) {
                    return Some(format!("the manifest in {name} is lost"));
                }
                continue;
            }
            for blob in self.blobs() {
                let state = self.state(blob);
                if state != State::Whole {
                    let key = &blob.key;
                    return Some(format!(
                        "{key}, which the manifest in {name} needs: {state:?}"
                    ));
                }
            }
        }
        None
    }

    /// A broken promise to clients that push a blob again that was quarantined: the blob stays.
    pub(crate) fn unhealed(&self) -> Option<String> {
        for name in self.promises.accepted.borrow().iter() {
            if !self.has_manifest(name) {
                return Some(format!("the manifest in {name} is lost"));
            }
            for blob in self.blobs() {
                let state = self.state(blob);
                if state != State::Whole {
                    return Some(format!("{}, healed in {name}: {state:?}", blob.digest));
                }
            }
        }
        None
    }

    /// A broken promise to clients that pull from a mirror: a stored blob stays while a stored
    /// manifest holds it.
    pub(crate) fn unmirrored(&self) -> Option<String> {
        for blob in self.blobs() {
            let (key, state) = (&blob.key, self.state(blob));
            if self.promises.held.borrow().contains(key) && state != State::Whole {
                return Some(format!("{key}, which was mirrored: {state:?}"));
            }
        }
        None
    }

    /// A broken promise to clients that push to a repository in which a mirror stores manifests
    /// before blobs: an accepted image is whole.
    pub(crate) fn unkept(&self) -> Option<String> {
        for name in self.promises.accepted.borrow().iter() {
            if !self.has_manifest(name) {
                return Some(format!("the manifest in {name} is lost"));
            }
            for blob in self.blobs() {
                let state = self.state(blob);
                if state != State::Whole {
                    return Some(format!("{}, pushed to {name}: {state:?}", blob.digest));
                }
            }
        }
        None
    }

    /// A blob of a stored manifest that cannot be pulled.
    pub(crate) fn unpulled(&self) -> Option<String> {
        self.unpulled_in(self.names.iter().copied())
    }

    /// A blob of an accepted manifest that cannot be pulled. A mirror stores other manifests, whose
    /// blobs it may not have.
    pub(crate) fn accepted_unpulled(&self) -> Option<String> {
        let accepted = self.promises.accepted.borrow();
        self.unpulled_in(accepted.iter().map(String::as_str))
    }

    /// A tag in `a` that is listed and leads to no manifest.
    pub(crate) fn misleading(&self) -> Option<String> {
        let registry = self.registry(0);
        let tags = ask(&registry, &Ask::new("GET /v2/a/tags/list"));
        let tags: Value = serde_json::from_slice(&tags.body).unwrap();
        let mut tags = tags["tags"].as_array().unwrap().iter();
        tags.find_map(|tag| {
            let line = format!("GET /v2/a/manifests/{}", tag.as_str().unwrap());
            let status = ask(&registry, &Ask::new(&line)).status;
            (status != 200).then(|| format!("{line}: {status}"))
        })
    }

    fn unpulled_in<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<String> {
        let registry = self.registry(Self::LATER);
        for name in names {
            let line = format!("HEAD /v2/{name}/manifests/{}", self.image.digest);
            if ask(&registry, &Ask::new(&line)).status != 200 {
                continue;
            }
            for blob in self.blobs() {
                let line = format!("GET /v2/{name}/blobs/{}", blob.digest);
                let answer = ask(&registry, &Ask::new(&line));
                if (answer.status, &answer.body) != (200, &blob.bytes) {
                    return Some(format!("{line}: {}", answer.status));
                }
            }
        }
        None
    }

    /// An object that nothing needs and that the sweep has left.
    pub(crate) fn left(&self) -> Option<String> {
        let memory = &self.store.memory;
        let keys = memory.keys();
        let mut named = BTreeSet::new();
        for key in keys.iter().filter(|key| key.starts_with(key::BLOBS)) {
            let meta = block_on(memory.head(key)).unwrap().unwrap();
            if meta.metadata.contains("extents") {
                named.extend(extents_of(&memory.bytes(key).unwrap()));
            }
        }
        let uploads: BTreeSet<UploadId> =
            named.iter().filter_map(|key| key::upload_of(key)).collect();
        keys.into_iter().find_map(|key| {
            let is_of_use = if key.starts_with(key::EXTENTS) {
                named.contains(&key)
            } else if key.starts_with(key::UPLOADS) {
                key::upload_of(&key).is_some_and(|id| uploads.contains(&id))
            } else {
                !key.starts_with(key::FILLS) && !key.starts_with("sweep/claims/")
            };
            (!is_of_use).then(|| format!("{key} is left"))
        })
    }
}

/// Whether there is such an object.
fn is_stored(memory: &MemoryObjects, key: &str) -> bool {
    block_on(memory.head(key)).unwrap().is_some()
}

/// The state of a blob.
fn state_of(memory: &MemoryObjects, blob: &Blob) -> State {
    let key = &blob.key;
    let (Some(meta), Some(bytes)) = (block_on(memory.head(key)).unwrap(), memory.bytes(key)) else {
        return State::Absent;
    };
    if meta.metadata.contains("aside") {
        return State::Aside;
    }
    let wrong = || State::Wrong(format!("{key} has other bytes"));
    if meta.metadata.contains("bytes") {
        return if bytes == blob.bytes {
            State::Whole
        } else {
            wrong()
        };
    }
    let mut left = Some(&*blob.bytes);
    for key in extents_of(&bytes) {
        let Some(bytes) = memory.bytes(&key) else {
            return State::Wrong(format!("{key} is gone"));
        };
        left = left.and_then(|left| left.strip_prefix(&*bytes));
    }
    if left.is_some_and(<[u8]>::is_empty) {
        State::Whole
    } else {
        wrong()
    }
}

/// The keys of the extents that a record names.
fn extents_of(record: &[u8]) -> Vec<String> {
    let record: Value = serde_json::from_slice(record).unwrap();
    let extents = record["extents"].as_array().unwrap().iter();
    extents
        .map(|extent| format!("extents/{}", extent["key"].as_str().unwrap()))
        .collect()
}

/// An image of this layer.
pub(crate) fn image_of(layer: &[u8]) -> Value {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
}
