//! Keys of the store: a key parses back to the values that made it; no other text panics.

use strata::{
    digest::{Algorithm, Digest},
    name::{Name, Tag},
    store::key,
    upload::UploadId,
};

use crate::input::Input;

pub(crate) const WORDS: &[&[u8]] = &[
    b"blobs/sha256/",
    b"sweep/marks/",
    b"sweep/claims/",
    b"refs/",
    b"layers/",
    b"extents/",
    b"uploads/",
    b"repositories/a/_tags/",
    b"repositories/a/_manifests/sha256/",
    b"repositories/a/_referrers/sha256/",
    b"/_sha256/",
    b"sha256-",
    b"sha512",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let digest = Algorithm::Sha256.digest(b"x");
    let other = Algorithm::Sha512.digest(b"y");
    let name: Name = "a/b-c".parse().unwrap();
    let id = UploadId::new([7; 16]);
    let keys = [
        key::blob(&digest),
        key::mark(&other),
        key::claim(&name, &digest),
        key::grant(&digest, &name, "00"),
        key::link(&other, &name),
        key::manifest(&name, &digest),
        key::tag(&name, &"v1".parse().unwrap()),
        key::referrer(&name, &digest, &other, "7"),
        key::step(&name, id, 12),
        key::extent(&key::extent_name(id, 3, "n")),
        key::indexing(&digest),
        key::index(&digest),
    ];
    let mut seeds: Vec<_> = keys.iter().map(|key| [b"\x00", key.as_bytes()].concat()).collect();
    seeds.push(b"\x01\x02\x03some/name-of.a_repository\0v1.2\0".to_vec());
    seeds
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.bool() {
        return made(&mut input);
    }
    let text = input.text();
    let name: Name = "a".parse().unwrap();
    let _ = (key::upload_of(&text), key::extent_place(&text), key::step_of(&text));
    let _ = (key::holder(&text), key::referrer_digest(&text), key::indexing_digest(&text));
    let _ = key::referrer_of(&name, &text);
    if let Some(digest) = key::digest_of(&text) {
        assert!(text.contains(digest.encoded()));
    }
    if let Some(tag) = key::tag_of(&name, &text) {
        assert_eq!(key::tag(&name, &tag), text);
    }
    if let Some(digest) = key::manifest_of(&name, &text) {
        assert_eq!(key::manifest(&name, &digest), text);
    }
    if let Some((name, digest)) = key::claimed(&text) {
        assert_eq!(key::claim(&name, &digest), text);
    }
}

fn made(input: &mut Input<'_>) {
    let algorithm = input.pick(&Algorithm::ALL);
    let digest = algorithm.digest(&[input.byte()]);
    let other = input.pick(&Algorithm::ALL).digest(&[input.byte(), 1]);
    let mut random = [0; 16];
    random.fill_with(|| input.byte());
    let id = UploadId::new(random);
    let number = (input.word() as u32) << input.below(16);
    let text = input.text();
    let mut parts = text.split('\0');
    let (Ok(name), Ok(tag)) = (
        parts.next().unwrap_or_default().parse::<Name>(),
        parts.next().unwrap_or("v1").parse::<Tag>(),
    ) else {
        return;
    };
    for key in [
        key::blob(&digest),
        key::mark(&digest),
        key::holders(&digest),
        key::grant(&digest, &name, "00112233445566778899aabbccddeeff"),
        key::link(&digest, &name),
        key::layer(&digest),
        key::index(&digest),
        key::stored(&digest, number),
        key::span(&digest, 1, 2),
    ] {
        assert_eq!(key::digest_of(&key).as_ref(), Some(&digest), "{key}");
    }
    for key in [
        key::grant(&digest, &name, "00112233445566778899aabbccddeeff"),
        key::link(&digest, &name),
    ] {
        let entry = key.strip_prefix(&key::holders(&digest)).unwrap();
        assert_eq!(key::holder(entry).as_ref(), Some(&name), "{key}");
    }
    let step = key::step(&name, id, number);
    assert_eq!(key::upload_of(&step), Some(id), "{step}");
    assert_eq!(key::step_of(&step), Some((name.clone(), number)), "{step}");
    let extent = key::extent_name(id, u64::from(number), "nonce");
    assert_eq!(key::upload_of(&key::extent(&extent)), Some(id), "{extent}");
    assert_eq!(key::extent_place(&extent), Some(u64::from(number)), "{extent}");
    let key = key::tag(&name, &tag);
    assert_eq!(key::tag_of(&name, &key), Some(tag), "{key}");
    let key = key::manifest(&name, &digest);
    assert_eq!(key::manifest_of(&name, &key), Some(digest.clone()), "{key}");
    let key = key::claim(&name, &digest);
    assert_eq!(key::claimed(&key), Some((name.clone(), digest.clone())), "{key}");
    let key = key::referrer(&name, &digest, &other, "nonce");
    let both: Option<(Digest, Digest)> = Some((digest.clone(), other.clone()));
    assert_eq!(key::referrer_of(&name, &key), both, "{key}");
    assert!(key < key::after_referrer(&name, &digest, &other), "{key}");
    let key = key::indexing(&digest);
    let rest = key.strip_prefix(key::INDEXING).unwrap();
    assert_eq!(key::indexing_digest(rest), Some(digest), "{key}");
}
