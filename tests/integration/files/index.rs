//! The stored index: replaced if it is damaged, and read in blocks if it is large.

use super::*;

#[test]
fn a_damaged_index_is_rebuilt() {
    let layer = gzip(&Tar::default().file("a", words(1, 3 * SPAN)).end());
    let world = World::with_layer(&layer);
    assert!(read(&world.isolate(&[SMALL]), &file(&layer, "a")) == words(1, 3 * SPAN));
    let key = key::index(&digest(&layer));
    let right = world.stored(&key).unwrap();
    let mut other_version = right.clone();
    other_version[8] = 2;
    let mut flipped = right.clone();
    flipped[30] ^= 1;
    let wrong = [
        other_version,
        flipped,
        right[..right.len().min(60)].to_vec(),
        Vec::new(),
        b"strata\0i".to_vec(),
    ];
    for bytes in wrong {
        world.store(&key, bytes.clone());
        world.warm.memory.forget();
        let isolate = world.isolate(&[SMALL]);
        assert!(read(&isolate, &file(&layer, "a")) == words(1, 3 * SPAN));
        assert_eq!(passes(&isolate, "indexed"), 1);
        assert!(world.stored(&key).unwrap() == right);

        // If the warm tier has the damaged index as well, no client is delayed, and no isolate
        // makes the index twice.
        let value = warm::Value {
            content: warm::TierContent {
                media_type: String::new(),
                bytes: MemoryBytes::copy_from(&bytes),
            },
            confirmed: world.host.now.get(),
            links: Vec::new(),
        };
        let sealed = block_on(value.seal(false, false)).unwrap();
        block_on(
            world
                .warm
                .memory
                .put(&key, sealed.bytes, Duration::from_secs(60)),
        )
        .unwrap();
        world.host.pass(Duration::from_secs(1));
        let isolate = world.isolate(&[SMALL]);
        assert!(read(&isolate, &file(&layer, "a")) == words(1, 3 * SPAN));
        assert_eq!(passes(&isolate, "indexed"), 0);
        assert_eq!(
            block_on(world.warm.memory.get(&key)),
            Ok(None),
            "it is gone"
        );
    }
}

#[test]
fn an_index_with_a_damaged_or_missing_part_is_rebuilt() {
    let layer = gzip(&Tar::default().file("a", words(1, 3 * SPAN)).end());
    let world = World::with_layer(&layer);
    let target = file(&layer, "a");
    assert!(read(&world.isolate(&[SMALL]), &target) == words(1, 3 * SPAN));
    let key = key::index(&digest(&layer));
    let right = world.stored(&key).unwrap();
    let head = u32::from_le_bytes(right[12..16].try_into().unwrap()) as usize;
    // The first block of the table of contents, and the last window.
    for at in [head + 2, right.len() - 5] {
        let mut wrong = right.clone();
        wrong[at] ^= 0xff;
        world.store(&key, wrong);
        world.warm.memory.forget();
        let isolate = world.isolate(&[SMALL]);
        refused(&get(&isolate, &target), 503, "UNAVAILABLE");
        assert!(read(&isolate, &target) == words(1, 3 * SPAN), "{at}");
        assert!(world.stored(&key).unwrap() == right);
    }
    // Spans that were stored, and are gone.
    let layer = through(
        "zstd -3 --zstd=wlog=17",
        &Tar::default().file("a", words(1, 9 * SPAN)).end(),
    );
    let world = World::with_layer(&layer);
    let target = file(&layer, "a");
    assert_eq!(get(&world.isolate(&[SMALL]), &contents(&layer)).status, 200);
    world.delete(&key::stored(&digest(&layer), 0));
    let isolate = world.isolate(&[SMALL]);
    refused(&get(&isolate, &target), 503, "UNAVAILABLE");
    assert!(read(&isolate, &target) == words(1, 9 * SPAN));
}

/// An archive with so many files, whose names are long and do not compress.
fn crowded(count: u64) -> Vec<u8> {
    let tar = (0..count).fold(Tar::default(), |tar, n| {
        let name: String = noise(n + 1, 90)
            .iter()
            .map(|byte| char::from(b'0' + byte % 64).to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        tar.file(format!("{:04x}/{name}", n % 40), "")
    });
    tar.file("zz/last", words(1, 100)).end()
}

#[test]
fn a_lookup_in_a_large_index_reads_one_block() {
    let layer = crowded(45_000);
    let world = World::with_layer(&layer);
    assert_eq!(get(&world.isolate(&[]), &contents(&layer)).status, 200);
    let digest = digest(&layer);
    let (head, pages) = (
        world.stored(&key::index(&digest)).unwrap(),
        world.stored(&key::pages(&digest)).unwrap(),
    );
    assert!(head.len() + pages.len() > 2 * MIB && head.len() < 200_000);
    world.warm.memory.forget();
    let isolate = world.isolate(&[]);
    let request = Ask::new(&format!("GET {}", file(&layer, "zz/last")));
    let (answer, log) = world.ask(&isolate, &request);
    assert_eq!(answer.body, words(1, 100));
    let before: Vec<&String> = log
        .iter()
        .filter(|entry| !entry.starts_with("warm put"))
        .collect();
    assert_eq!(
        before,
        [
            "cold get link",
            "warm get index",
            "cold get index",
            "cold get pages",
            "warm get span",
            "cold get blob"
        ]
    );
    let (_, log) = world.ask(&isolate, &request);
    assert_eq!(log, Vec::<String>::new());
    // That a file is absent is known from one block as well.
    let absent = Ask::new(&format!("GET {}", file(&layer, "0007/zzz")));
    let (answer, log) = world.ask(&isolate, &absent);
    refused(&answer, 404, "FILE_UNKNOWN");
    let pages_read = count(&log, "cold get pages");
    let asked = log.iter().filter(|entry| !entry.starts_with("warm put"));
    assert!(pages_read <= 2 && asked.count() == pages_read, "{log:?}");
    // If pages are gone, the index is made again.
    world.delete(&key::pages(&digest));
    let isolate = world.isolate(&[NO_WARM]);
    refused(&ask(&isolate, &request), 503, "UNAVAILABLE");
    assert_eq!(ask(&isolate, &request).body, words(1, 100));
    assert!(world.stored(&key::pages(&digest)).unwrap() == pages);
}
