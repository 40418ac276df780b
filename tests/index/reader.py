"""A second reader of Strata's layer indexes, written from docs/layer-index.md alone.

    python3 reader.py INDEX [--pages PAGES] [--spans DIR] LAYER list | cat PATH | verify

`list` prints the entries as JSON lines, with the field names of docs/extension.md.
`cat` writes one file: it decompresses only the spans that hold the file.
`verify` decompresses each span through its own checkpoint and checks the diff ID.
"""
import argparse, hashlib, json, os, re, struct, sys, urllib.parse, zlib

MAGIC = bytes.fromhex("7374726174610069")
TYPES = ["file", "hardlink", "symlink", "char", "block", "directory", "fifo"]
SPAN = struct.Struct("<QQQIIIBBBx")  # at, start, window, length, crc, object, how, bits, value


class Invalid(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Invalid(message)


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        check(self.at + length <= len(self.data), "a truncated field")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                check(value < 1 << 64, "a number has more than 64 bits")
                return value

    def signed(self):
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def bytes(self):
        return self.take(self.number())


def wrap(value):
    """Brings a sum into the range of a signed number of 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def aligned(count, value):
    """Empty deflate blocks that end `count` bits before a byte boundary, and then these bits.

    zlib of Python has no inflatePrime, and shifting the stream would break stored blocks.
    """
    text = ""  # the first bit of the stream comes first
    if count % 2:  # 93 bits: a dynamic block whose only codes are for its end and one distance
        code = "".join({2: "100", 17: "100"}.get(at, "000") for at in range(19))
        text = "001" + "00000" + "00000" + "1111" + code + "11111111" + "11101011" + "00" + "0"
    while (len(text) + count) % 8:
        text += "0100000000"  # 10 bits: a block with fixed codes
    text += "".join(str(value >> at & 1) for at in range(count))
    return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))


class Index:
    def __init__(self, index, pages, spans, layer):
        self.layer, self.objects = open(layer, "rb"), spans
        with open(index, "rb") as file:
            fixed = file.read(20)
            check(len(fixed) == 20 and fixed[:8] == MAGIC, "not an index")
            version, length, crc = struct.unpack("<III", fixed[8:])
            check(version == 1, f"unknown version {version}, expected 1")
            head = file.read(length - 20)
        check(len(head) == length - 20 and zlib.crc32(head) == crc, "the head is damaged")
        if head[0] == 1:
            raise Invalid("the layer was refused: " + Cursor(head[4:]).bytes().decode())
        self.pages, self.base = (open(pages, "rb"), 0) if pages else (open(index, "rb"), length)
        self.compression, self.span, self.layer_size, self.size, self.count, rest = struct.unpack(
            "<xB2xQQQQQ", head[:44])
        spans, blocks, self.stored = struct.unpack("<III4x", head[44:60])
        self.diff_id = head[60:92]
        check(os.path.getsize(layer) == self.layer_size, "the layer has another length")
        check(os.path.getsize(pages or index) == self.base + rest, "the pages have another length")
        at = 92 + spans * SPAN.size
        self.spans = list(SPAN.iter_unpack(head[92:at]))
        directory, offset, self.blocks = Cursor(head[at:]), 0, []
        for _ in range(blocks):
            length, entries = directory.number(), directory.number()
            crc = int.from_bytes(directory.take(4), "little")
            self.blocks.append((directory.bytes(), offset, length, entries, crc))
            offset += length
        check(directory.at == len(directory.data), "the head is longer than its directory")

    def page(self, offset, length):
        self.pages.seek(self.base + offset)
        return self.pages.read(length)

    def entries(self, path=None):
        """All entries; or those of the blocks that can have this path."""
        for number, (first, offset, length, count, crc) in enumerate(self.blocks):
            last = self.blocks[number + 1][0] if number + 1 < len(self.blocks) else None
            if path is None or (first <= path and (last is None or path <= last)):
                data = self.page(offset, length)
                check(zlib.crc32(data) == crc, f"block {number} is damaged")
                yield from block(zlib.decompress(data, -15), count)

    def find(self, path, before=1 << 64):
        """The last entry of a path, a hard link replaced by what its target was at that time."""
        found = [e for e in self.entries(path) if e["path"] == path and e["offset"] < before]
        check(found, f"{path.decode(errors='replace')} is not in the layer")
        entry = found[-1]
        if entry["type"] != "hardlink":
            return entry
        check(entry["link"] != path, "the link leads to itself")
        return self.find(entry["link"], entry["offset"])

    def read_span(self, number):
        at, start, window, length, crc, stored, how, bits, value = self.spans[number]
        last = number + 1 == len(self.spans)
        size = (self.size if last else self.spans[number + 1][0]) - at
        if how < 3:
            length = (self.layer_size if last else self.spans[number + 1][1]) - start
        source = open(os.path.join(self.objects, f"{stored:05}"), "rb") if how == 4 else self.layer
        source.seek(start)
        data = source.read(length)
        if how == 1:
            data = members(data, size)
        elif how == 2:
            window = zlib.decompress(self.page(window, self.spans[number][3]), -15)
            if bits:
                data = aligned(bits, value) + data
            inflater = zlib.decompressobj(-15, zdict=window)
            out = inflater.decompress(data, size)
            data = out + members(inflater.unused_data[8:], size - len(out))
        elif how == 3:
            from compression import zstd  # since Python 3.14
            data = zstd.decompress(data)
        elif how == 4:
            data = zlib.decompress(data, -15)
        check(len(data) == size and zlib.crc32(data) == crc, f"span {number} is damaged")
        return data

    def read(self, offset, length):
        for number, span in enumerate(self.spans):
            end = self.spans[number + 1][0] if number + 1 < len(self.spans) else self.size
            if span[0] < offset + length and offset < end:
                yield self.read_span(number)[max(offset - span[0], 0) : offset + length - span[0]]

    def cat(self, path, out):
        entry = self.find(path)
        check(entry["type"] == "file", "not a file")
        at, written = entry["offset"], 0
        for offset, length in entry.get("segments", [(0, entry["size"])]):
            out.write(bytes(offset - written))
            for piece in self.read(at, length):
                out.write(piece)
            at, written = at + length, offset + length
        out.write(bytes(entry["size"] - written))


def members(data, size):
    out = b""
    while len(out) < size:
        check(data, "truncated gzip members")
        inflater = zlib.decompressobj(31)
        out += inflater.decompress(data, size - len(out))
        data = inflater.unused_data
    return out


def block(data, count):
    cursor = Cursor(data)
    check(cursor.number() == count, "wrong number of entries in a block")
    paths, kinds, modes, owners, sizes, times, offsets, extras = columns = [
        Cursor(cursor.bytes()) for _ in range(8)]
    path, seconds, offset = b"", 0, 0
    for _ in range(count):
        path = path[: paths.number()] + paths.bytes()
        kind = kinds.take(1)[0]
        entry = {"path": path, "type": TYPES[kind & 7], "mode": modes.number()}
        entry["uid"], entry["user"] = owners.number(), owners.bytes()
        entry["gid"], entry["group"] = owners.number(), owners.bytes()
        entry["size"] = sizes.number()
        seconds = wrap(seconds + times.signed())
        entry["modified"] = seconds, times.number()
        offset = (offset + offsets.signed()) % (1 << 64)
        entry["offset"] = offset
        if kind & 7 in (1, 2):
            entry["link"] = extras.bytes()
        elif kind & 7 in (3, 4):
            entry["device"] = extras.number(), extras.number()
        for flag, name in ((0x10, "accessed"), (0x20, "changed")):
            if kind & flag:
                entry[name] = wrap(seconds + extras.signed()), extras.number()
        if kind & 0x40:
            entry["attributes"] = [(extras.bytes(), extras.bytes()) for _ in range(extras.number())]
        if kind & 0x08:
            entry["attributesOmitted"] = extras.number()
        if kind & 0x80:
            entry["segments"] = [(extras.number(), extras.number()) for _ in range(extras.number())]
        yield entry
    check(all(column.at == len(column.data) for column in columns), "a column is too long")


def printable(entry):
    out = {}
    for name, value in entry.items():
        if name in ("modified", "accessed", "changed"):
            value = f"{value[0]}.{value[1]:09}"
        elif name == "attributes":
            value = [{"name": a.decode(errors="replace"), "value": urllib.parse.quote(b, safe="")}
                     for a, b in value]
        elif isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                out[name + "Encoded"] = urllib.parse.quote(value, safe="/")
                value = value.decode(errors="replace")
        out[name] = value
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("index")
    parser.add_argument("--pages")
    parser.add_argument("--spans")
    parser.add_argument("layer")
    parser.add_argument("command", choices=["list", "cat", "verify"])
    parser.add_argument("path", nargs="?")
    options = parser.parse_args()
    try:
        index = Index(options.index, options.pages, options.spans, options.layer)
        if options.command == "cat":
            index.cat(os.fsencode(options.path), sys.stdout.buffer)
        elif options.command == "list":
            entries = list(index.entries())
            check(len(entries) == index.count, "wrong number of entries")
            for entry in entries:
                print(json.dumps(printable(entry)))
        else:
            archive = hashlib.sha256()
            for number in range(len(index.spans)):
                archive.update(index.read_span(number))
            check(archive.digest() == index.diff_id, "the diff ID does not match")
            starts, bits = [span[6] for span in index.spans], [span[7] for span in index.spans]
            print(json.dumps({"diffId": archive.hexdigest(), "starts": starts, "bits": bits}))
    except (Invalid, zlib.error) as error:
        sys.exit(f"reader.py: {error}")


main()
