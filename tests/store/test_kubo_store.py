from __future__ import annotations

import contextlib
import json
import socket
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.protocol.errors import (
    BlobMissingError,
    BlobTamperedError,
    ConfigError,
    HearthError,
    ProtocolError,
    StoreError,
    StoreUnavailableError,
)
from app.store.base import BlobStore, reference
from app.store.cid import CID
from app.store.embedded import EmbeddedStore
from app.store.kubo import KuboStore
from app.store.unixfs import CHUNK
from tests.store import kubo_server as node
from tests.store.kubo_server import KuboServer

BIG = Random(3).randbytes(2 * CHUNK + 1000)
LIMIT = 1 << 30


@pytest.fixture
def server() -> Iterator[KuboServer]:
    with KuboServer() as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def store(server: KuboServer, pauses: list[float]) -> Iterator[KuboStore]:
    store = KuboStore(server.url, sleep=pauses.append, timeout=(2.0, 5.0))
    yield store
    store.close()


@pytest.fixture
def hasty(server: KuboServer, pauses: list[float]) -> Iterator[KuboStore]:
    """A store that waits for nobody."""
    store = KuboStore(server.url, sleep=pauses.append, timeout=(2.0, 0.1), attempts=2)
    yield store
    store.close()


def put(store: KuboStore, server: KuboServer) -> object:
    return store.put(b"data")


def get(store: KuboStore, server: KuboServer) -> object:
    server.store(b"data")
    return store.get(reference(b"data"), LIMIT)


def has(store: KuboStore, server: KuboServer) -> object:
    server.store(b"data")
    return store.has(reference(b"data"))


def version(store: KuboStore, server: KuboServer) -> object:
    return store.version()


REQUESTS = {"add": put, "cat": get, "block/stat": has, "version": version}
each_request = pytest.mark.parametrize("command", REQUESTS)


# ---- what works


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3000))
def test_what_is_put_is_got(store: KuboStore, data: bytes) -> None:
    ref = store.put(data)
    assert ref == reference(data)
    assert store.get(ref, len(data)) == data
    assert store.has(ref)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, len(BIG)])
def test_both_stores_give_equal_references(store: KuboStore, tmp_path: Path, size: int) -> None:
    embedded = EmbeddedStore(tmp_path, fsync=False)
    stores: list[BlobStore] = [store, embedded]
    refs = [each.put(BIG[:size], "task/round-0001/é") for each in stores]
    assert refs[0] == refs[1] == reference(BIG[:size])
    assert [each.get(ref, LIMIT) for each, ref in zip(stores, refs, strict=True)] == [BIG[:size]] * 2


def test_put_pins_by_name_and_names_every_option_of_the_layout(store: KuboStore, server: KuboServer) -> None:
    ref = store.put(BIG, "task/round-0007/update")
    store.put(b"no name")
    assert server.pins == {ref.cid: "task/round-0007/update", reference(b"no name").cid: ""}
    (_, options, _), (_, bare, _) = server.requests
    assert {key: options[key] for key in node.PROFILE} == node.PROFILE
    assert "pin-name" not in bare


def test_a_bad_name_is_refused_before_it_is_sent(store: KuboStore, server: KuboServer) -> None:
    with pytest.raises(StoreError, match="pin name"):
        store.put(b"x", "a" * 256)
    assert server.requests == []


@pytest.mark.parametrize("form", ["url", "slash", "api", "multiaddr", "localhost"])
def test_forms_of_the_address(server: KuboServer, form: str) -> None:
    forms = {
        "url": server.url,
        "slash": server.url + "/",
        "api": server.url + "/api/v0",
        "multiaddr": server.multiaddr,
        "localhost": server.url.replace("127.0.0.1", "localhost"),
    }
    assert KuboStore(forms[form], attempts=1).version() == "0.40.1"


def test_user_and_password_are_sent_and_not_shown(server: KuboServer) -> None:
    store = KuboStore(server.url.replace("//", "//hearth:s%40cret@"))
    assert store.version() == "0.40.1"
    assert server.requests[0][2]["Authorization"] == "Basic aGVhcnRoOnNAY3JldA=="
    server.faults["version"].append(node.status(403, b"403 - Forbidden"))
    with pytest.raises(StoreError) as caught:
        store.version()
    assert "cret" not in str(caught.value)
    assert server.url in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:5001",
        "ftp://127.0.0.1:5001",
        "http://",
        "http://:5001",
        "http://127.0.0.1:port",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:5001/ipfs",
        "http://[::1",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/5001",
        "/ip4/256.0.0.1/tcp/5001",
        "/",
        "/nonsense",
        "http://user:secret@127.0.0.1:port",
    ],
)
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^store\.url: not the address of an IPFS node: .*allowed: http://"
    ) as caught:
        KuboStore(url)
    assert "secret" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(max_size=30).map("http://".__add__) | st.text(max_size=30).map("/ip4/".__add__))
def test_hostile_addresses_raise_only_our_errors(url: str) -> None:
    with contextlib.suppress(ConfigError):
        KuboStore(url).close()


def test_an_ipv6_address(monkeypatch) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("no IPv6 here")
    with pytest.raises(StoreUnavailableError, match=rf"http://\[::1\]:{port} cannot be reached: Connection refused"):
        KuboStore(f"http://[::1]:{port}", attempts=1).version()


def test_a_proxy_of_the_environment_is_left_out_for_our_own_machine(server: KuboServer, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        assert KuboStore(url, attempts=1).version() == "0.40.1"


def test_no_warning_reaches_the_user(server: KuboServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert KuboStore(server.url).version() == "0.40.1"


def test_many_threads_share_a_store(store: KuboStore) -> None:
    blobs = [Random(i).randbytes(50_000 + i) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(store.put, blobs))
        assert refs == [reference(blob) for blob in blobs]
        assert list(pool.map(lambda ref: store.get(ref, LIMIT), refs)) == blobs


# ---- the node is away


def test_no_daemon_is_one_clear_line(pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(StoreUnavailableError) as caught:
            KuboStore(url, sleep=pauses.append).put(b"data")
    assert str(caught.value) == f"IPFS node {url} cannot be reached: Connection refused"
    assert len(pauses) == 3


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(StoreUnavailableError, match=r"^IPFS node http://hearth\.invalid:5001 cannot be reached: ."):
        KuboStore("http://hearth.invalid:5001", attempts=1).version()


TRANSPORT = {
    "reset": node.reset,
    "502": node.status(502),
    "503": node.status(503),
    "504": node.status(504),
    "429": node.status(429),
    "502 as JSON": node.answers_raw(b'{"Message": "bad gateway", "Code": 0, "Type": "error"}', 502),
}


@each_request
@pytest.mark.parametrize("fault", TRANSPORT)
def test_transport_errors_are_repeated(
    store: KuboStore, server: KuboServer, pauses: list[float], command: str, fault: str
) -> None:
    server.faults[command].extend([TRANSPORT[fault]] * 3)
    assert REQUESTS[command](store, server)
    assert server.commands() == [command] * 4
    assert all(low <= pause <= 2 * low for pause, low in zip(pauses, (0.125, 0.25, 0.5), strict=True))


@each_request
@pytest.mark.parametrize("fault", TRANSPORT)
def test_repeating_has_an_end(
    store: KuboStore, server: KuboServer, pauses: list[float], command: str, fault: str
) -> None:
    server.faults[command].extend([TRANSPORT[fault]] * 9)
    with pytest.raises(StoreUnavailableError, match=f"^IPFS node {server.url} cannot be reached: [^\n]+$"):
        REQUESTS[command](store, server)
    assert len(pauses) == 3
    assert server.commands() == [command] * 4


def test_pauses_grow_to_a_limit(server: KuboServer, pauses: list[float]) -> None:
    server.faults["version"].extend([node.status(503)] * 12)
    with pytest.raises(StoreUnavailableError):
        KuboStore(server.url, sleep=pauses.append, attempts=12).version()
    assert len(pauses) == 11
    assert all(4 <= pause <= 8 for pause in pauses[5:])


@each_request
def test_a_node_that_stalls(hasty: KuboStore, server: KuboServer, pauses: list[float], command: str) -> None:
    server.faults[command].append(node.stall)
    assert REQUESTS[command](hasty, server)
    server.faults[command].extend([node.stall] * 2)
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached: .*timed out"):
        REQUESTS[command](hasty, server)
    assert len(pauses) == 2


@pytest.mark.parametrize("fault", [node.stall_in_body, node.cut])
def test_a_download_that_stops_in_the_middle(hasty: KuboStore, server: KuboServer, fault: node.Fault) -> None:
    server.faults["cat"].append(fault)
    assert get(hasty, server) == b"data"
    server.faults["cat"].extend([fault] * 2)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        get(hasty, server)


# ---- the node answers, and the answer is no


@each_request
@pytest.mark.parametrize("code", [401, 403])
def test_no_access_is_not_repeated(
    store: KuboStore, server: KuboServer, pauses: list[float], command: str, code: int
) -> None:
    server.faults[command].append(node.status(code, b"403 - Forbidden\n"))
    with pytest.raises(StoreError, match=f"does not let us in .status {code}.: check user and password"):
        REQUESTS[command](store, server)
    assert pauses == []


@each_request
def test_not_a_node_at_all(store: KuboStore, server: KuboServer, pauses: list[float], command: str) -> None:
    server.faults[command].append(node.status(404))
    with pytest.raises(StoreError, match="status 404: is this the RPC of a Kubo node"):
        REQUESTS[command](store, server)
    assert pauses == []


def test_no_space(store: KuboStore, server: KuboServer, pauses: list[float]) -> None:
    server.faults["add"].append(node.says("write /data/blocks/X2/.temp: no space left on device"))
    with pytest.raises(StoreError, match="has no space left: write") as caught:
        store.put(b"data")
    assert type(caught.value) is StoreError
    assert pauses == []


def test_refusals_are_passed_on(store: KuboStore, server: KuboServer) -> None:
    server.faults["cat"].append(node.says("this dag node is a directory\nreally"))
    with pytest.raises(StoreError, match=r"refused: this dag node is a directory really$"):
        get(store, server)


def test_a_missing_blob(store: KuboStore, server: KuboServer, pauses: list[float]) -> None:
    ref = reference(BIG)
    assert not store.has(ref)
    with pytest.raises(BlobMissingError, match=f"{server.url} does not have it: .*{ref.cid}"):
        store.get(ref, LIMIT)
    server.faults["cat"].append(node.says("context deadline exceeded"))
    with pytest.raises(BlobMissingError):
        store.get(ref, LIMIT)
    assert pauses == []


def test_the_node_is_told_how_long_it_may_look(store: KuboStore, server: KuboServer) -> None:
    store.get(store.put(b"data"), LIMIT)
    store.get(store.put(BIG), LIMIT)
    asked = [options["timeout"] for command, options, _ in server.requests if command == "cat"]
    assert asked == ["30s", "32s"]
    store.has(reference(b"data"))
    assert server.requests[-1][1]["offline"] == "true"


# ---- the node lies, or does not know better


def leaves(server: KuboServer) -> list[CID]:
    return [cid for cid in server.blocks if cid.codec == 0x55]


def test_a_missing_leaf_truncates_without_an_error(store: KuboStore, server: KuboServer, pauses: list[float]) -> None:
    ref = store.put(BIG)
    last = leaves(server)[-1]
    del server.blocks[last]
    assert store.has(ref), "a node knows only that it has the root"
    with pytest.raises(BlobMissingError, match=f"has only {2 * CHUNK} of the {len(BIG)} bytes of {ref.cid}"):
        store.get(ref, LIMIT)
    assert pauses == []


def test_corrupted_blocks_are_served_and_noticed(store: KuboStore, server: KuboServer, pauses: list[float]) -> None:
    ref = store.put(BIG)
    for leaf in leaves(server):
        block = server.blocks[leaf]
        server.blocks[leaf] = block[:-1] + bytes([block[-1] ^ 1])
        with pytest.raises(BlobTamperedError, match="other bytes"):
            store.get(ref, LIMIT)
        server.blocks[leaf] = block + b"more"
        with pytest.raises(BlobTamperedError, match="other bytes"):
            store.get(ref, LIMIT)
        server.blocks[leaf] = block
    assert store.get(ref, LIMIT) == BIG
    assert pauses == []


def test_an_endless_answer_is_cut(store: KuboStore, server: KuboServer) -> None:
    server.faults["cat"].append(node.endless)
    with pytest.raises(BlobTamperedError):
        store.get(reference(b"data"), LIMIT)


def test_a_blob_above_the_limit_is_refused_before_it_is_asked_for(store: KuboStore, server: KuboServer) -> None:
    ref = store.put(b"12345")
    with pytest.raises(StoreError, match=r"allowed: up to 4"):
        store.get(ref, 4)
    assert server.commands() == ["add"]


def test_every_part_of_the_reference_is_checked(store: KuboStore) -> None:
    ref, other = store.put(BIG), store.put(BIG[:-1])
    wrong = [replace(ref, sha256=other.sha256), replace(ref, cid=other.cid), replace(ref, size=ref.size - 1)]
    for each in wrong:
        with pytest.raises((BlobTamperedError, BlobMissingError)):
            store.get(each, LIMIT)
    with pytest.raises(BlobMissingError, match="has only"):
        store.get(replace(ref, size=ref.size + 1), LIMIT)
    with pytest.raises(ProtocolError):
        store.get(replace(ref, cid="../" + ref.cid), LIMIT)


def truncated_upload(handler: node.Handler) -> None:
    """A proxy cut the upload, well-formed: the node pins what arrived and says so."""
    cid = handler.node.store(b"dat")
    handler.answer({"Name": str(cid), "Hash": str(cid), "Size": "3"})


def test_a_truncated_upload_is_noticed(store: KuboStore, server: KuboServer, pauses: list[float]) -> None:
    server.faults["add"].append(truncated_upload)
    with pytest.raises(BlobTamperedError, match=f"stored '{reference(b'dat').cid}', not {reference(b'data').cid}"):
        store.put(b"data")
    assert pauses == []


@pytest.mark.parametrize(
    "text", ["", "../x", "a\nb", "Qm" + "1" * 44, "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", "z" * 49]
)
def test_any_other_hash_is_refused(store: KuboStore, server: KuboServer, text: str) -> None:
    server.faults["add"].append(node.answers({"Name": "", "Hash": text, "Size": "4"}))
    with pytest.raises(BlobTamperedError, match=r"^[^\n]+$"):
        store.put(b"data")


def test_a_node_may_print_the_cid_in_base58(store: KuboStore, server: KuboServer) -> None:
    # zb2rh... is how js-ipfs prints the raw CIDv1 of b"hello world".
    text = "zb2rhj7crUKTQYRGCRATFaQ6YFLTde2YzdqbbhAASkL9uRDXn"
    assert CID.parse_any(text) == CID.of(b"hello world", 0x55)
    server.faults["add"].append(node.answers({"Name": "", "Hash": text, "Size": "11"}))
    assert store.put(b"hello world") == reference(b"hello world")


STRANGE = [
    b"",
    b"{",
    b"<html>",
    b"[]",
    b"{}",
    b"null",
    b"3",
    b'"x"',
    b"{}{}",
    b'{"Hash": 3}',
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("command", ["add", "version"])
@pytest.mark.parametrize("code", [200, 500])
@pytest.mark.parametrize("body", STRANGE)
def test_strange_answers(
    store: KuboStore, server: KuboServer, pauses: list[float], command: str, code: int, body: bytes
) -> None:
    server.faults[command].append(node.answers_raw(body, code))
    with pytest.raises(StoreError) as caught:
        REQUESTS[command](store, server)
    assert "\n" not in str(caught.value)
    assert server.url in str(caught.value)
    assert pauses == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from(list(REQUESTS)),
    code=st.sampled_from([200, 204, 301, 400, 418, 500]),
    body=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["Message", "Code", "Type", "Hash", "Version"]), inner, max_size=4)
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_hostile_answers_raise_only_our_errors(
    store: KuboStore, server: KuboServer, command: str, code: int, body: bytes
) -> None:
    server.faults[command].append(node.answers_raw(body, code))
    act: Callable[[KuboStore, KuboServer], object] = REQUESTS[command]
    with contextlib.suppress(HearthError):
        act(store, server)
