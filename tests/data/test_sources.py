"""A file is whole and right or not there, whatever the server does; what came once is not fetched again."""

import hashlib
import http.client
import resource
import shutil
import socket

import pytest

import diva
from diva.data.catalogue import SourceFile
from diva.data.download.sources import Patience, fetch, text_of_size
from diva.errors import DataError
from tests.data import server as serving
from tests.data.site import Told

CONTENT = bytes(range(256)) * 400 + b"end"
N = len(CONTENT)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def get(tmp_path, told):
    """Fetch a file from addresses, without waiting between attempts."""
    pauses: list[float] = []

    def fetched(*urls, content=CONTENT, checksum="sha256", size=True, **how):
        known: dict = {checksum: hashlib.new(checksum, content).hexdigest()} if checksum else {}
        source = SourceFile(name="f.bin", urls=list(urls), size=len(content) if size else None, **known)
        patience = Patience(timeout_s=how.pop("timeout_s", 5), pause=pauses.append)
        found = fetch(source, tmp_path, told, patience=patience, **how)
        assert found.path == tmp_path / "f.bin" and found.path.read_bytes() == content
        assert found.sha256 == hashlib.sha256(content).hexdigest() and found.size == len(content)
        return found

    fetched.pauses = pauses  # type: ignore[attr-defined]
    return fetched


@pytest.mark.parametrize("checksum", ["sha256", "sha1", "md5", None])
def test_a_file_is_fetched_once(server, get, tmp_path, checksum):
    url = server.serve("f.bin", CONTENT)
    assert get(url, checksum=checksum).url == url
    assert get(url, checksum=checksum).url == url
    assert server.asked("f.bin") == [None]
    assert server.files["/f.bin"].requests[0]["User-Agent"] == f"diva/{diva.__version__}"
    assert not (tmp_path / "f.bin.part").exists()


@pytest.mark.parametrize("behaviour", [serving.in_drops(777), serving.without_length, serving.in_chunks])
def test_a_body_may_come_in_any_form(server, get, behaviour):
    get(server.serve("f.bin", CONTENT, behaviour))


def test_an_empty_file_is_a_file(server, get):
    get(server.serve("f.bin", b""), content=b"")


def test_progress_counts_bytes(server, get, told):
    get(server.serve("f.bin", CONTENT))
    assert told.bars["f.bin"] == (N, N, "B")


def test_a_broken_connection_is_continued_where_it_broke(server, get):
    url = server.serve("f.bin", CONTENT, serving.breaking_off_after(1000), serving.breaking_off_after(500))
    get(url)
    assert server.asked("f.bin") == [None, "bytes=1000-", "bytes=1500-"]
    assert server.files["/f.bin"].requests[1]["If-Range"] == server.files["/f.bin"].tag
    assert get.pauses == [0, 0]  # it gave something new each time


def test_a_server_that_breaks_off_many_times_but_gives_something_new_is_borne(server, get):
    get(server.serve("f.bin", CONTENT, *[serving.breaking_off_after(N // 20)] * 19))


def test_a_server_that_falls_silent_is_asked_again(server, get):
    get(server.serve("f.bin", CONTENT, serving.hanging_after(2000)), timeout_s=0.3)
    assert server.asked("f.bin") == [None, "bytes=2000-"]


def test_what_a_failed_attempt_left_is_continued(server, get, tmp_path):
    url = server.serve("f.bin", CONTENT, serving.breaking_off_after(3000), *[serving.with_status(503)] * 4)
    with pytest.raises(DataError, match="answered 503"):
        get(url)
    assert (tmp_path / "f.bin.part").read_bytes() == CONTENT[:3000]
    get(url)
    assert server.asked("f.bin")[-1] == "bytes=3000-"


def test_a_part_that_was_whole_is_not_asked_for_again(server, get, tmp_path):
    url = server.serve("f.bin", CONTENT)
    get(url)
    (tmp_path / "f.bin").rename(tmp_path / "f.bin.part")
    get(url)
    assert server.asked("f.bin") == [None]


def test_status_416_for_a_part_that_is_whole_is_no_error(server, get, tmp_path):
    url = server.serve("f.bin", CONTENT, serving.without_length)
    get(url, size=False)
    (tmp_path / "f.bin").rename(tmp_path / "f.bin.part")
    get(url, size=False)
    assert server.asked("f.bin") == [None, f"bytes={N}-"]


def test_a_part_longer_than_the_file_is_fetched_anew(server, get, tmp_path):
    url = server.serve("f.bin", CONTENT, serving.without_length)
    get(url, size=False)
    (tmp_path / "f.bin").unlink()
    (tmp_path / "f.bin.part").write_bytes(CONTENT + b"more")
    get(url, size=False)
    assert server.asked("f.bin") == [None, f"bytes={N + 4}-", None]


def test_a_server_that_ignores_ranges_starts_over(server, get, told):
    get(server.serve("f.bin", CONTENT, serving.breaking_off_after(1000), ranges=False))
    assert any("from the start" in line for line in told.lines)


def test_a_server_that_ignores_ranges_and_always_breaks_off_is_given_up(server, get):
    url = server.serve("f.bin", CONTENT, *[serving.breaking_off_after(1000)] * 99, ranges=False)
    with pytest.raises(DataError, match=r"the connection ended after 1,000 of 102,403 bytes \(4 times\) \(http"):
        get(url)
    assert len(server.asked("f.bin")) == 5 and get.pauses == [0, 1, 3, 9]


@pytest.mark.parametrize(
    "text", ["bytes 0-102402/102403", "bytes 1001-102402/102403", "bytes 1000-102402/999", "bytes x", "nonsense", ""]
)
def test_a_wrong_content_range_starts_over(server, get, told, text):
    get(server.serve("f.bin", CONTENT, serving.breaking_off_after(1000), serving.with_range(text)))
    assert server.asked("f.bin") == [None, "bytes=1000-", None]


def test_a_part_that_was_not_asked_for_is_refused(server, get):
    with pytest.raises(DataError, match="answered with a part of the file"):
        get(server.serve("f.bin", CONTENT, serving.with_range("bytes 0-102402/102403")))


@pytest.mark.parametrize("checksum", ["sha256", None])
def test_a_file_that_changed_between_attempts_is_not_patched_together(server, get, checksum):
    new = CONTENT[::-1]
    url = server.serve("f.bin", CONTENT, serving.breaking_off_after(1000), serving.other_content(new))
    get(url, content=new, checksum=checksum)
    assert server.asked("f.bin")[:2] == [None, "bytes=1000-"]


def test_a_file_that_changed_where_nothing_says_so_is_found_by_its_checksum(server, get, told):
    new = CONTENT[::-1]
    url = server.serve("f.bin", CONTENT, serving.breaking_off_after(1000), serving.other_content(new), etag=False)
    get(url, content=new)
    assert server.asked("f.bin") == [None, "bytes=1000-", None]
    assert any("put together from 2 pieces it has sha256" in line for line in told.lines)


def test_without_checksum_and_version_nothing_is_continued(server, get):
    get(server.serve("f.bin", CONTENT, serving.breaking_off_after(1000), etag=False), checksum=None)
    assert server.asked("f.bin") == [None, None]


def test_a_date_names_a_version_too_and_a_weak_tag_does_not(server, get):
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    get(
        server.serve(
            "f.bin",
            CONTENT,
            serving.breaking_off_after(1000),
            etag=False,
            headers={"Last-Modified": date, "ETag": 'W/"1"'},
        )
    )
    assert server.files["/f.bin"].requests[1]["If-Range"] == date


def test_another_mirror_continues_what_the_first_began(server, get):
    first = server.serve("a/f.bin", CONTENT, serving.breaking_off_after(1000), *[serving.with_status(503)] * 9)
    second = server.serve("b/f.bin", CONTENT)
    assert get(first, second).url == second
    assert server.asked("b/f.bin") == ["bytes=1000-"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_a_server_does_not_have_is_taken_from_the_next(server, get, told, status):
    gone = server.serve("gone", CONTENT, serving.with_status(status))
    assert get(gone, server.serve("f.bin", CONTENT)).url.endswith("f.bin")
    assert any(f"answered {status}" in line for line in told.lines) and not get.pauses


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again_after_a_while(server, get, status):
    get(server.serve("f.bin", CONTENT, *[serving.with_status(status)] * 3))
    assert get.pauses == [1, 3, 9]


def test_a_closed_connection_is_tried_again(server, get):
    get(server.serve("f.bin", CONTENT, serving.nothing, serving.in_chunks_cut_off))


def test_a_server_that_is_not_there_is_told_and_left(server, get):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/f.bin"
    assert get(dead, server.serve("f.bin", CONTENT)).url != dead
    assert get.pauses == [1]


@pytest.mark.parametrize("wrong", [b"wrong" * 3, CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_wrong_file_is_deleted_and_the_next_mirror_asked(server, get, tmp_path, wrong, told):
    bad = server.serve("bad", wrong)
    assert get(bad, server.serve("f.bin", CONTENT)).url != bad
    assert any("expected" in line for line in told.lines)


def test_a_wrong_checksum_names_what_was_expected_and_found_and_leaves_nothing(server, get, tmp_path):
    wrong = CONTENT[:-1] + b"x"
    expected, found = (hashlib.md5(content, usedforsecurity=False).hexdigest() for content in (CONTENT, wrong))
    with pytest.raises(
        DataError, match=f"what it gave has md5 {found}, expected {expected}; it was deleted.*--from FILE"
    ):
        get(server.serve("f.bin", wrong), checksum="md5")
    assert list(tmp_path.iterdir()) == []


def test_a_length_that_is_not_the_cards_is_refused_before_the_body(server, get):
    with pytest.raises(DataError, match="offers 5 bytes, expected 102,403"):
        get(server.serve("f.bin", CONTENT, serving.claiming(5)))


def test_a_length_too_long_for_the_body_is_given_up(server, get):
    url = server.serve("f.bin", CONTENT[:50], *[serving.claiming(N)] * 9)
    with pytest.raises(DataError, match="was not fetched"):
        get(url)


def test_a_length_too_short_for_the_body_is_found_by_the_checksum(server, get):
    with pytest.raises(DataError, match=r"what it gave has sha256 .*, expected"):
        get(server.serve("f.bin", CONTENT, serving.claiming(50)), size=False)


def test_a_body_without_end_is_cut_off_at_the_cards_size(server, get, tmp_path):
    with pytest.raises(DataError, match="sends more than the 102,403 bytes that it may have"):
        get(server.serve("f.bin", CONTENT, serving.endless))
    assert server.reached.wait(30) and list(tmp_path.iterdir()) == []


def test_a_body_without_end_and_without_a_known_size_does_not_fill_the_disk(server, get, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=(1 << 28) + 300_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="than the disk has room for"):
        get(server.serve("f.bin", CONTENT, serving.endless), size=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_which_there_is_no_room_is_not_begun(server, get, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"takes 102 kB, the disk of .* has 100 kB free"):
        get(server.serve("f.bin", CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_told_and_what_came_is_kept(server, get, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError, match=r"f\.bin\.part: cannot be written \(File too large\); make room"):
            get(server.serve("f.bin", CONTENT))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < (tmp_path / "f.bin.part").stat().st_size <= 50_000
    get(server.url("f.bin"))
    assert server.asked("f.bin")[1] == f"bytes={50_000}-"


def test_redirections_are_followed(server, get):
    server.serve("f.bin", CONTENT)
    hop = server.serve("hop", b"", serving.redirecting_to("/f.bin", 301))
    assert get(server.serve("start", b"", serving.redirecting_to(hop, 307))).url == server.url("start")


def test_redirections_in_a_circle_are_refused(server, get):
    one = server.serve("one", b"", *[serving.redirecting_to("/two")] * 99)
    server.serve("two", b"", *[serving.redirecting_to("/one")] * 99)
    with pytest.raises(DataError, match="redirects in a circle"):
        get(one)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:text/plain,1", "gopher://127.0.0.1/"]
)
def test_redirections_out_of_the_web_are_refused(server, get, target):
    with pytest.raises(DataError, match=r"redirects (to|from)"):
        get(server.serve("f.bin", CONTENT, serving.redirecting_to(target)))


def test_a_redirection_from_https_to_http_is_refused():
    from email.message import Message
    from urllib.request import Request

    from diva.data.download.web import RefusedError, _Redirects

    def redirect(start, end):
        return _Redirects().redirect_request(Request(start), None, 302, "Found", Message(), end)

    with pytest.raises(RefusedError, match="redirects from https: to http:"):
        redirect("https://a.example/f", "http://a.example/f")
    assert redirect("http://a.example/f", "https://a.example/f").full_url == "https://a.example/f"


def test_a_web_page_is_not_taken_for_the_file(server, get):
    with pytest.raises(DataError, match="answered with a web page instead of the file"):
        get(server.serve("f.bin", CONTENT, serving.page))


def test_a_file_without_checksum_is_compared_with_the_first_time(server, get):
    first = hashlib.sha256(CONTENT).hexdigest()
    get(server.serve("f.bin", CONTENT), checksum=None, recorded=first)
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DataError, match=f"has sha256 {first}, the first time it was {other}"):
        get(server.serve("g.bin", CONTENT), checksum=None, recorded=other)


def test_a_whole_file_that_was_damaged_on_the_disk_is_fetched_again(server, get, tmp_path):
    url = server.serve("f.bin", CONTENT)
    get(url)
    (tmp_path / "f.bin").write_bytes(CONTENT[:-1] + b"x")
    get(url)
    assert server.asked("f.bin") == [None, None]


def test_a_part_of_which_nothing_was_noted_is_continued(server, get, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1000])
    get(server.serve("f.bin", CONTENT))
    assert server.asked("f.bin") == ["bytes=1000-"]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 1}'])
def test_a_part_with_a_damaged_note_does_no_harm(server, get, tmp_path, note):
    (tmp_path / "f.bin.part").write_bytes(b"rubbish")
    (tmp_path / "f.bin.note.json").write_text(note)
    get(server.serve("f.bin", CONTENT))


def test_a_card_without_addresses_says_what_to_do(get):
    with pytest.raises(DataError, match=r"the card gives no address.*--from FILE"):
        get()


def test_mirrors_that_the_user_names_come_first(server, get):
    mine = server.serve("mine", CONTENT)
    assert get(server.serve("f.bin", CONTENT), first=[mine]).url == mine
    assert server.asked("f.bin") == []


def test_sizes_are_told_for_people():
    assert [text_of_size(n) for n in (0, 999, 1000, 11_594_722, 2.5e9, 3e12)] == [
        "0 bytes", "999 bytes", "1 kB", "11.6 MB", "2.5 GB", "3 TB",
    ]  # fmt: skip


def test_the_server_itself_speaks_http(server):
    server.serve("f.bin", CONTENT)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/f.bin", headers={"Range": "bytes=102400-"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (206, b"end")
