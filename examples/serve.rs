//! Serves a registry over TCP, natively: blobs in a temporary folder, everything else in memory.
//!
//! ```text
//! cargo run --release --example serve -- 127.0.0.1:5000
//! crane copy alpine 127.0.0.1:5000/alpine
//! ```
//!
//! Everyone may push, pull and delete, and nothing outlasts the process. The example is a platform
//! of its own: a store ([`Folder`]), a host ([`Native`]), and the glue to HTTP.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    error::Error,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    process,
    rc::Rc,
    time::{Duration, SystemTime},
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use http::header;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use strata::{
    digest::{Algorithm, Digest},
    host::{
        Ask, Cache, Clock, Fetch, FetchError, KeyDerivation, Level, Log, Random, RateLimit, Reply,
        SignIns,
    },
    memory::{
        MadeItems, MemoryBody, MemoryBytes, MemoryHasher, MemoryHost, MemoryReader, MemoryStreams,
        MemoryValues,
    },
    metrics::Metrics,
    platform::Composed,
    range::ByteRange,
    registry::{Body, HEADERS, Registry, Request},
    settings::Settings,
    store::{
        Bytes as _, Condition, Content, Cursor, Hasher as _, ListOptions, ListStart, Meta, Object,
        Objects, Page, Piece, PutOptions, Received, StoreError, Streams,
    },
    time::Timestamp,
};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::{LocalSet, spawn_local},
};

/// Objects as files of a folder, with their metadata in memory.
struct Folder {
    path: PathBuf,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Meta, Rc<Stored>)>,
    /// The number of files written so far, which names the next one.
    count: u64,
}

/// The file of an object, deleted once the object and all its readers are gone.
struct Stored(PathBuf);

impl Drop for Stored {
    fn drop(&mut self) {
        // If it fails, the file is deleted with the folder.
        drop(fs::remove_file(&self.0));
    }
}

/// A file that was written, with its hashes.
struct Written {
    file: Rc<Stored>,
    size: u64,
    /// Its SHA-256 is its etag.
    etag: Digest,
    digest: Digest,
}

impl Folder {
    fn new(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self {
            path,
            state: RefCell::default(),
        })
    }

    fn find(&self, key: &str) -> Option<(Meta, Rc<Stored>)> {
        self.state.borrow().objects.get(key).cloned()
    }

    /// Writes a stream to a new file, chunk by chunk.
    async fn store(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Written, StoreError> {
        let count = {
            let mut state = self.state.borrow_mut();
            state.count += 1;
            state.count
        };
        let file = Rc::new(Stored(self.path.join(count.to_string())));
        let mut writer = File::create(&file.0).await.map_err(failed)?;
        let mut etag = MemoryStreams.hasher(Algorithm::Sha256)?;
        let mut hasher = MemoryStreams.hasher(algorithm)?;
        let (mut size, mut chunks) = (0, body.into_stream());
        while let Some(chunk) = chunks.try_next().await? {
            writer.write_all(&chunk).await.map_err(failed)?;
            size += chunk.len() as u64;
            let chunk = MemoryBytes::copy_from(&chunk);
            etag.update(&chunk).await?;
            hasher.update(&chunk).await?;
        }
        writer.flush().await.map_err(failed)?;
        Ok(Written {
            file,
            size,
            etag: etag.finish().await?,
            digest: hasher.finish().await?,
        })
    }

    /// Makes a key name a file, if the condition holds.
    fn commit(&self, key: &str, written: Written, options: PutOptions<'_>) -> Option<Meta> {
        let objects = &mut self.state.borrow_mut().objects;
        let found = objects.get(key).map(|(meta, _)| meta.etag.as_str());
        let holds = match options.condition {
            Condition::Always => true,
            Condition::Absent => found.is_none(),
            Condition::Matches(etag) => found == Some(etag),
        };
        let meta = Meta {
            size: written.size,
            etag: written.etag.encoded().to_owned(),
            uploaded: now(),
            metadata: options.metadata.to_owned(),
            stamp: options.stamp.to_owned(),
        };
        holds.then(|| {
            objects.insert(key.to_owned(), (meta.clone(), written.file));
            meta
        })
    }
}

impl Objects for Folder {
    type Body = MemoryBody;
    type Bytes = MemoryBytes;

    async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        Ok(self.find(key).map(|(meta, _)| meta))
    }

    async fn get(
        &self,
        key: &str,
        range: Option<ByteRange>,
    ) -> Result<Option<Object<MemoryBody>>, StoreError> {
        let Some((meta, file)) = self.find(key) else {
            return Ok(None);
        };
        let (first, length) = range.map_or((0, meta.size), |range| (range.first(), range.length()));
        if first + length > meta.size {
            return Err(StoreError::Failed(format!("range not within {key}")));
        }
        let mut reader = File::open(&file.0).await.map_err(failed)?;
        reader
            .seek(io::SeekFrom::Start(first))
            .await
            .map_err(failed)?;
        let chunks =
            stream::try_unfold((reader, file, length), async |(mut reader, file, left)| {
                if left == 0 {
                    return Ok(None);
                }
                let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
                reader.read_exact(&mut chunk).await.map_err(failed)?;
                let left = left - chunk.len() as u64;
                Ok(Some((chunk, (reader, file, left))))
            });
        let body = MemoryBody::Made(MadeItems(chunks.boxed_local()));
        Ok(Some(Object { meta, body }))
    }

    async fn put(
        &self,
        key: &str,
        content: Content<MemoryBody, MemoryBytes>,
        options: PutOptions<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let (body, length) = match content {
            Content::Bytes(bytes) => (MemoryBody::Bytes(bytes), None),
            Content::Held(bytes) => (MemoryBody::Bytes(bytes.to_vec()), None),
            Content::Stream(body, length) => (body, Some(length)),
        };
        let algorithm = options.digest.map_or(Algorithm::Sha256, Digest::algorithm);
        let written = self.store(body, algorithm).await?;
        if length.is_some_and(|length| length != written.size) {
            return Err(StoreError::Length);
        }
        if options
            .digest
            .is_some_and(|digest| *digest != written.digest)
        {
            return Err(StoreError::Digest);
        }
        Ok(self.commit(key, written, options))
    }

    async fn list(&self, prefix: &str, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let objects = &self.state.borrow().objects;
        let after = match options.start {
            ListStart::First => "",
            ListStart::After(key) => key,
            ListStart::Cursor(Cursor(key)) => key,
        };
        let start = after.max(prefix);
        let mut found = objects
            .range(start.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| key.as_str() != after)
            .map(|(key, (meta, _))| {
                let mut meta = meta.clone();
                if !options.metadata {
                    meta.metadata.clear();
                }
                (key.clone(), meta)
            });
        let page = found.by_ref().take(options.limit.min(1_000) as usize);
        let page: Vec<(String, Meta)> = page.collect();
        let last = found.next().and(page.last());
        Ok(Page {
            next: last.map(|(key, _)| Cursor(key.clone())),
            objects: page,
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let objects = &mut self.state.borrow_mut().objects;
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }

    async fn receive(
        &self,
        key: &str,
        body: MemoryBody,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let written = self.store(body, algorithm).await?;
        let (size, digest) = (written.size, written.digest.clone());
        self.commit(key, written, PutOptions::default());
        Ok(Received {
            size,
            digest,
            writes: 1,
        })
    }
}

/// The bytes of a file that are in memory at once.
const CHUNK: usize = 256 * 1024;

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn failed(error: io::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

/// The host of an operating system. [`MemoryStreams`] handles its streams.
#[derive(Clone)]
struct Native(MemoryHost);

impl Clock for Native {
    fn now(&self) -> Timestamp {
        now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Random for Native {
    fn random(&self) -> [u8; 16] {
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            // Identifiers that a client can guess would be worse.
            eprintln!("the operating system has no randomness: {error}");
            process::exit(1);
        }
        random
    }
}

impl KeyDerivation for Native {
    async fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<[u8; 32], String> {
        self.0.derive(password, salt, iterations).await
    }
}

impl RateLimit for Native {
    async fn admits(&self, _counted: SignIns, _key: &str) -> bool {
        true
    }
}

impl Fetch for Native {
    async fn fetch(&self, ask: Ask) -> Result<Reply<MemoryBody>, FetchError> {
        let found = format!("this example mirrors nothing, asked for {}", ask.url);
        Err(FetchError::Failed(found))
    }
}

impl Cache for Native {
    async fn cached(
        &self,
        address: &str,
        size: u64,
        range: Option<ByteRange>,
    ) -> Result<Option<MemoryBody>, StoreError> {
        self.0.cached(address, size, range).await
    }

    async fn cache(
        &self,
        address: &str,
        body: MemoryBody,
        size: u64,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        self.0.cache(address, body, size, time_to_live).await
    }
}

impl Log for Native {
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
        let fields = fields.iter().filter(|(_, value)| !value.is_empty());
        let fields: String = fields
            .map(|(name, value)| format!(" {name}={value}"))
            .collect();
        match level {
            Level::Error => eprintln!("error: {message}{fields}"),
            Level::Info => println!("{message}{fields}"),
        }
    }
}

impl Streams for Native {
    type Body = MemoryBody;
    type Bytes = MemoryBytes;
    type Reader = MemoryReader;
    type Hasher = MemoryHasher;

    async fn hash(&self, body: MemoryBody, algorithm: Algorithm) -> Result<Received, StoreError> {
        MemoryStreams.hash(body, algorithm).await
    }

    async fn collect(&self, body: MemoryBody, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        MemoryStreams.collect(body, limit).await
    }

    async fn hold(&self, body: MemoryBody, length: u64) -> Result<MemoryBytes, StoreError> {
        MemoryStreams.hold(body, length).await
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<MemoryHasher, StoreError> {
        MemoryStreams.hasher(algorithm)
    }

    fn read(&self, body: MemoryBody) -> Result<MemoryReader, StoreError> {
        MemoryStreams.read(body)
    }

    fn concatenate(&self, pieces: Vec<Piece<MemoryBody, MemoryBytes>>, length: u64) -> MemoryBody {
        MemoryStreams.concatenate(pieces, length)
    }

    async fn discard(&self, body: MemoryBody) {
        MemoryStreams.discard(body).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "an operating system has a clock")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Timestamp(u64::try_from(millis).unwrap_or(u64::MAX))
}

type NativeRegistry = Registry<Composed<Folder, MemoryValues, Native>>;

/// The body of a response, chunk by chunk.
type Outgoing = StreamBody<LocalBoxStream<'static, Result<Frame<Bytes>, StoreError>>>;

/// Passes a request to the registry, and returns its response. Bodies are streamed.
async fn answer(
    registry: Rc<NativeRegistry>,
    address: SocketAddr,
    request: hyper::Request<Incoming>,
) -> http::Response<Outgoing> {
    let (head, body) = request.into_parts();
    let host = head
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut request = Request::new(head.method, target);
    request.origin = format!("http://{}", host.unwrap_or("localhost"));
    request.address = address.ip().to_string();
    for name in HEADERS {
        if let Some(value) = head.headers.get(&name) {
            request.headers.insert(name, value.clone());
        }
    }
    let has_body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if has_body {
        let chunks = body.into_data_stream().map_ok(|chunk| chunk.to_vec());
        let chunks = chunks.map_err(|error| StoreError::Failed(error.to_string()));
        request.body = Some(MemoryBody::Made(MadeItems(chunks.boxed_local())));
    }
    let (response, after) = registry.answer(request).await;
    spawn_local(async move { registry.finish(after).await });
    response.map(|body| {
        let body = match body {
            Body::Empty => MemoryBody::Bytes(Vec::new()),
            Body::Bytes(bytes) => MemoryBody::Bytes(bytes),
            Body::Held(bytes) => MemoryBody::Bytes(bytes.to_vec()),
            Body::Stream(body) => body,
        };
        let chunks = body.into_stream().map_ok(|chunk| Frame::data(chunk.into()));
        StreamBody::new(chunks.boxed_local())
    })
}

async fn serve(address: &str, folder: PathBuf) -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse(|name| match name {
        "STRATA_ANONYMOUS_PULL" => Some("true".to_owned()),
        "STRATA_RULES" => Some(EVERYTHING.to_owned()),
        name => env::var(name).ok(),
    })?;
    let host = Native(MemoryHost::new([0; 16], Timestamp(0)));
    let (warm, metrics) = (MemoryValues::default(), Rc::new(Metrics::new()?));
    let registry = Registry::new(Folder::new(folder)?, warm, host, settings, metrics);
    let registry: Rc<NativeRegistry> = Rc::new(registry);
    let listener = TcpListener::bind(address).await?;
    println!("a registry is at http://{}", listener.local_addr()?);
    loop {
        let (connection, address) = listener.accept().await?;
        let registry = registry.clone();
        spawn_local(async move {
            let service = service_fn(move |request| {
                let response = answer(registry.clone(), address, request);
                async { Ok::<_, std::convert::Infallible>(response.await) }
            });
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(connection), service);
            if let Err(error) = connection.await {
                eprintln!("a connection broke off: {error}");
            }
        });
    }
}

/// The rules of the example.
const EVERYTHING: &str = r#"[{
    "repositories": ["**"],
    "who": ["everyone"],
    "may": ["pull", "push", "overwrite", "delete", "administer"]
}]"#;

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:5000");
    let folder = env::temp_dir().join(format!("strata-{}", process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let until_stopped = async {
        tokio::select! {
            served = serve(address, folder.clone()) => served,
            stopped = tokio::signal::ctrl_c() => Ok(stopped?),
        }
    };
    let served = runtime.block_on(LocalSet::new().run_until(until_stopped));
    // The folder exists only if the registry was started.
    drop(fs::remove_dir_all(folder));
    served
}

#[cfg(test)]
mod tests {
    use strata::store::suite;

    use super::*;

    #[test]
    fn the_folder_store_passes_the_store_suite() {
        let path = env::temp_dir().join(format!("strata-suite-{}", process::id()));
        let store = Rc::new(Folder::new(path.clone()).unwrap());
        let host = Native(MemoryHost::new([0; 16], Timestamp(0)));
        let body = |bytes: &[u8]| MemoryBody::Bytes(bytes.to_vec());
        let checks =
            suite::run::<Composed<Folder, MemoryValues, Native>>(&store, &host, body, 1 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let outcomes = runtime.unwrap().block_on(checks);
        drop(store);
        fs::remove_dir_all(path).unwrap();
        for outcome in &outcomes {
            assert_eq!(outcome.result, Ok(()), "{}", outcome.name);
        }
        assert!(outcomes.len() > 20);
    }
}
