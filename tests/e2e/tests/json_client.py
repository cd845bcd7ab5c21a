"""A client of another make: Python's `websockets` and the JSON mapping, written from proto/README.md alone.

Usage: json_client.py SCENARIO PORT PAGE. A scenario that fails ends with a traceback and exit code 1.
"""

import json
import re
import shlex
import sys
import time
import urllib.request
import uuid

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE_S = 60
ALICE, BOB, CHLOE, DAN = (f"{n}@tandem.test" for n in ("alice", "bob", "chloe", "dan"))
ALICE_BOB = f"o:{ALICE},{BOB}"


def uuid7():
    """RFC 9562, section 5.7."""
    value = bytearray(int(time.time() * 1000).to_bytes(6, "big") + uuid.uuid4().bytes[6:])
    value[6] = 0x70 | value[6] & 0x0F
    return str(uuid.UUID(bytes=bytes(value)))


def post(url, body, headers):
    request = urllib.request.Request(url, body.encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


class Server:
    def __init__(self, port, page):
        self.port, self.page = port, page

    def token(self, user):
        """The page's `curl` line, by another tool."""
        line = next(l for l in self.page.splitlines() if l.startswith("curl "))
        words = shlex.split(line.replace(":7400", f":{self.port}"))
        data = json.loads(words[words.index("-d") + 1]) | {"user": user}
        name, value = words[words.index("-H") + 1].split(": ")
        return post(words[-1], json.dumps(data), {name: value})["token"]

    def open(self):
        url = f"ws://127.0.0.1:{self.port}/v1/connect"
        ws = connect(url, subprotocols=["tandem.v1+json"], max_size=None, compression=None)
        assert ws.subprotocol == "tandem.v1+json", ws.subprotocol
        return ws


class Device:
    """What the page's "What a client must do" says, and no more."""

    def __init__(self, server, user, name, resume=None, have=None, synced=True):
        self.user, self.name, self.server = user, name, server
        self.n, self.synced = (resume or {}).get("n", 0), False
        self.shown, self.answers, self.request = {}, {}, 0
        self.ws = server.open()
        hello = {
            "token": server.token(user),
            "device": {"id": name, "class": "DEVICE_CLASS_PC"},
        }
        if resume:
            hello["resume"] = {"session": resume["session"], "n": str(resume["n"])}
        if have:
            hello["have"] = {c: str(seq) for c, seq in have.items()}
        self.send({"hello": hello})
        self.welcome = self.until("welcome")["welcome"]
        if synced and not self.welcome.get("resumed"):
            self.until("synced")

    def send(self, frame):
        self.ws.send(json.dumps(frame))

    def receive(self):
        frame = json.loads(self.ws.recv(timeout=PATIENCE_S))
        if "n" in frame:
            assert int(frame["n"]) == self.n + 1, (self.n, frame)
            self.n = int(frame["n"])
        if "synced" in frame:
            self.synced = True
        for kind in ("accepted", "rejected"):
            if kind in frame:
                self.answers[frame[kind]["eventId"]] = (kind, frame[kind])
        if "event" in frame:
            self.merge(frame["event"])
            self.confirm(frame["event"])
        return frame

    def until(self, kind, ok=lambda f: True):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            frame = self.receive()
            assert kind == "closing" or "closing" not in frame, frame
            if kind in frame and ok(frame[kind]):
                return frame
        raise AssertionError(f"{self.name} waited in vain for {kind}")

    def merge(self, event):
        """Know by (sender, eventId); the lowest seq is the place."""
        held = self.shown.setdefault(event["conversation"], {})
        key, seq = (event["sender"], event["eventId"]), int(event["seq"])
        if key not in held or seq < held[key][0]:
            held[key] = (seq, event)

    def confirm(self, event):
        received = {"conversation": event["conversation"]}
        if self.synced:
            received["seq"] = event["seq"]
        else:
            received |= {"exact": True, "seqs": [event["seq"]]}
        self.send({"ack": str(self.n), "received": received})

    def submit(self, body, **where):
        event_id = uuid7()
        self.send({"submit": {"eventId": event_id, "body": body, **where}})
        return event_id

    def answer(self, event_id):
        """Waits for the answer; events that come meanwhile are taken in."""
        while event_id not in self.answers:
            self.receive()
        return self.answers[event_id]

    def say(self, text, **where):
        kind, answer = self.answer(self.submit({"text": {"text": text}}, **where))
        assert kind == "accepted", answer
        return int(answer["seq"])

    def do(self, body, **where):
        """Submits; what was accepted."""
        kind, answer = self.answer(self.submit(body, **where))
        assert kind == "accepted", (body, answer)
        return answer

    def ask(self, **op):
        self.request += 1
        self.send({"request": {"id": str(self.request), **op}})
        mine = str(self.request)
        return self.until("response", lambda r: r["id"] == mine)["response"]

    def page_back(self, conversation, limit=7):
        """Everything that was said, newest page first, as the page says."""
        before = None
        while True:
            page = {"conversation": conversation, "limit": limit}
            if before:
                page["before"] = before
            page = self.ask(page=page)["page"]
            events = page.get("events", [])
            assert [int(e["seq"]) for e in events] == sorted(int(e["seq"]) for e in events)
            for event in events:
                self.merge(event)
            if not page.get("more"):
                return
            before = events[0]["seq"]

    def until_shown(self, conversation, count):
        while len(self.texts(conversation)) < count:
            self.receive()

    def texts(self, conversation):
        events = sorted(self.shown.get(conversation, {}).values(), key=lambda e: e[0])
        return [
            (seq, e["eventId"], e["sender"], e["body"]["text"]["text"])
            for seq, e in events
            if e["body"].get("text", {}).get("text")
        ]

    def cut(self):
        """As a cable that is pulled: no closing handshake."""
        self.ws.socket.close()

    def bye(self):
        self.send({"bye": {}})
        try:
            while True:
                self.ws.recv(timeout=PATIENCE_S)
        except ConnectionClosed:
            pass


# ---------------------------------------------------------------- the page


def readable(line):
    """An example as JSON: what the page leaves out is left out."""
    return json.loads(line.replace("{…}", "{}").replace(",…", "").replace(":…", ':"…"'))


def blocks(page):
    found = re.findall(r"```json\n(.*?)```", page, re.S)
    return [[readable(l) for l in block.strip().splitlines()] for block in found]


def matches(example, real, path=""):
    """The real frame has all that the example shows, of the same kind; "…" stands for anything."""
    assert type(example) is type(real), (path, example, real)
    if isinstance(example, dict):
        for key, value in example.items():
            assert key in real, (f"{path}.{key}", real)
            matches(value, real[key], f"{path}.{key}")
    elif isinstance(example, list):
        assert len(example) <= len(real), (path, example, real)
        for i, value in enumerate(example):
            matches(value, real[i], f"{path}[{i}]")
    elif isinstance(example, str) and "…" not in example:
        same = real.isdigit() if example.isdigit() else example == real
        assert same, (path, example, real)


def page(server):
    """Every example, in the page's order, sent as it is written but for the token and the seqs."""
    hello, opening, talk, event, confirm, pages = blocks(server.page)
    bob = Device(server, "bob", "bob-pc")
    said = {bob.say("before", to=ALICE): "before"}

    ws = server.open()
    hello[0]["hello"]["token"] = server.token("alice")

    def send(frame):
        ws.send(json.dumps(frame, ensure_ascii=False))

    numbered = []

    def until(kind, ok=lambda f: True):
        while True:
            frame = json.loads(ws.recv(timeout=PATIENCE_S))
            if "n" in frame:
                numbered.append(int(frame["n"]))
                assert numbered == list(range(1, len(numbered) + 1)), numbered
            if kind in frame and ok(frame[kind]):
                return frame

    send(hello[0])
    for example in opening:
        kind = next(k for k in example if k != "n")
        matches(example, until(kind))

    submit, accepted = talk
    wanted = submit["submit"]["eventId"]
    send(submit)
    # the answer and the event come in either order
    came = {}
    while len(came) < 2:
        frame = json.loads(ws.recv(timeout=PATIENCE_S))
        if "n" in frame:
            numbered.append(int(frame["n"]))
        for kind in ("accepted", "event"):
            if frame.get(kind, {}).get("eventId") == wanted:
                came[kind] = frame
    assert numbered == list(range(1, len(numbered) + 1)), numbered
    matches(accepted, came["accepted"])
    matches(event[0], came["event"])
    seq = came["accepted"]["accepted"]["seq"]
    at_bob = bob.until("event", lambda e: e["eventId"] == wanted)["event"]
    assert at_bob["seq"] == seq and at_bob["sender"] == ALICE, at_bob

    # bob says something, so that there is something to confirm
    newest = str(bob.say("and back", to=ALICE))
    said |= {int(seq): "hello, bob", int(newest): "and back"}
    until("event", lambda e: e["seq"] == newest)
    for frame, mark in zip(confirm, ("delivered", "read"), strict=True):
        next(iter(frame.values()))["seq"] = newest
        send(frame)
        bob.until("event", lambda e: e["body"].get("receipt", {}).get(mark) == newest)

    for frame in pages:
        wants = frame["request"]
        send(frame)
        got = until("response", lambda r: r["id"] == wants["id"])["response"]["page"]
        assert got["conversation"] == wants["page"]["conversation"]
        texts = [e["body"]["text"]["text"] for e in got["events"] if "text" in e["body"]]
        after = int(wants["page"].get("after", 0))
        assert texts == [text for at, text in said.items() if at > after], texts

    inline = set(re.findall(r'`(\{"[^`]*\})`', server.page))
    known = {
        '{"ping":{}}': lambda: (send({"ping": {}}), until("pong")),
        '{"ack":"5","ping":{}}': lambda: (
            send({"ack": str(numbered[-1]), "ping": {}}),
            until("pong"),
        ),
        '{"received":{"conversation":…,"exact":true,"seqs":["…"]}}': lambda: send(
            {"received": {"conversation": ALICE_BOB, "exact": True, "seqs": [newest]}}
        ),
        '{"request":{"id":"7", <op>}}': lambda: (
            send({"request": {"id": "7", "contacts": {}}}),
            until("response", lambda r: r["id"] == "7" and "contacts" in r),
        ),
        '{"response":{"id":"7", …}}': lambda: None,
        '{"who":"dan@tandem.test","action":"ACTION_REQUEST"}': lambda: (
            send(
                {
                    "request": {
                        "id": "8",
                        "contactChange": {"who": DAN, "action": "ACTION_REQUEST"},
                    }
                }
            ),
            until("response", lambda r: r["id"] == "8" and "contacts" in r),
        ),
    }
    assert inline == set(known), inline ^ set(known)
    for example in known.values():
        example()
    send({"ping": {"nonce": "7"}})
    until("pong", lambda p: p["nonce"] == "7")


def bodies(server):
    """Every body and every request that the page lists, by the names that it gives."""
    alice, bob = Device(server, "alice", "a"), Device(server, "bob", "b")
    first = str(alice.say("one", to=BOB))
    alice.do({"text": {"text": "two", "replyTo": first, "mentions": [BOB]}}, to=BOB)
    alice.do({"edit": {"target": first, "text": {"text": "1"}}}, conversation=ALICE_BOB)
    gone = str(alice.say("gone", to=BOB))
    alice.do({"delete": {"target": gone}}, conversation=ALICE_BOB)
    bob.do({"reaction": {"target": first, "emoji": "👍"}}, conversation=ALICE_BOB)
    bob.do({"nudge": {}}, to=ALICE)

    group = f"g:{uuid.uuid4()}@tandem.test"
    alice.do({"groupCreate": {"title": "four", "members": [BOB, CHLOE]}}, conversation=group)
    steps = [
        {"membersAdd": {"members": [DAN]}},
        {"memberRemove": {"member": CHLOE}},
        {"titleSet": {"title": "three"}},
        {"roleSet": {"member": BOB, "role": "ROLE_ADMIN"}},
    ]
    for step in steps:
        alice.do(step, conversation=group)
    alice.say("hello, group", conversation=group)
    members = bob.ask(members={"conversation": group})["members"]
    assert members["title"] == "three", members
    roles = {m["user"]: m["role"] for m in members["members"]}
    assert roles == {ALICE: "ROLE_OWNER", BOB: "ROLE_ADMIN", DAN: "ROLE_MEMBER"}, roles
    alice.do({"memberLeave": {}}, conversation=group)

    listed = re.findall(r"^\| (`[^|]*`) \|", server.page.split("## Bodies")[1], re.M)
    listed = set(re.findall(r"`(\w+)`", " ".join(listed).split("`malformed`")[0]))
    done = {"text", "edit", "delete", "reaction", "nudge", "groupCreate", "memberLeave"}
    done |= {next(iter(step)) for step in steps}
    assert listed == done, listed ^ done

    later = Device(server, "bob", "b-later")
    later.page_back(ALICE_BOB)
    seen = {str(seq): e for seq, e in later.shown[ALICE_BOB].values()}
    assert seen[first]["folded"]["edited"]["text"] == "1", seen[first]
    assert seen[first]["folded"]["reactions"][0]["emoji"] == "👍", seen[first]
    assert seen[gone]["folded"]["deletedSeq"] and "gone" not in json.dumps(seen[gone]), seen[gone]

    assert later.ask(heads={"limit": 1})["heads"]["heads"][0]["conversation"]
    contacts = {c["user"]: c["state"] for c in later.ask(contacts={})["contacts"]["contacts"]}
    assert contacts == dict.fromkeys([ALICE, CHLOE, DAN], "STATE_MUTUAL"), contacts
    assert later.ask(find={"who": "+33 6 12 34 56 01"})["found"]["user"] == ALICE
    change = {"who": "+33612345601", "action": "ACTION_RENAME", "name": "Al"}
    changed = later.ask(contactChange=change)
    assert changed["contacts"]["contacts"][0]["name"] == "Al", changed
    push = {"endpoint": "https://push.test/x", "p256dh": "BA==", "auth": "AA=="}
    assert later.ask(pushToken={"token": {"webPush": push}})["problem"]["code"] == "invalid_argument"
    assert "done" in later.ask(pushToken={})
    stranger = f"g:{uuid.uuid4()}@tandem.test"
    assert "problem" in later.ask(members={"conversation": stranger})


# ---------------------------------------------------------------- people


def talk(server):
    """Two people, and a third device that comes later, show the same in the same order."""
    alice, bob = Device(server, "alice", "a-pc"), Device(server, "bob", "b-pc")
    sent = {}
    for i in range(40):
        # without waiting for answers: what one device sends keeps its order
        for who, to in ((alice, BOB), (bob, ALICE)):
            text = f"{who.user} {i}"
            sent[who.submit({"text": {"text": text}}, to=to)] = (who.user, text)
    for device in (alice, bob):
        device.until_shown(ALICE_BOB, 80)
        for event_id in (e for e, (user, _) in sent.items() if user == device.user):
            kind, answer = device.answer(event_id)
            at = next(seq for seq, e, *_ in device.texts(ALICE_BOB) if e == event_id)
            assert kind == "accepted" and int(answer["seq"]) == at, answer
    later = Device(server, "bob", "b-phone")
    later.page_back(ALICE_BOB)
    shown = alice.texts(ALICE_BOB)
    assert bob.texts(ALICE_BOB) == shown
    assert later.texts(ALICE_BOB) == shown
    assert len(shown) == 80 == len({event_id for _, event_id, _, _ in shown})
    assert [s for s, *_ in shown] == sorted(s for s, *_ in shown)
    for _, event_id, sender, text in shown:
        assert (sender.split("@")[0], text) == sent[event_id]
    for who in ("alice", "bob"):
        own = [text for _, _, sender, text in shown if sender.startswith(who)]
        assert own == [f"{who} {i}" for i in range(40)], own
    # the newest page first, or oldest first from where one stands
    after = later.ask(page={"conversation": ALICE_BOB, "after": str(shown[69][0]), "limit": 200})
    got = [e["eventId"] for e in after["page"]["events"] if "text" in e["body"]]
    assert got == [event_id for _, event_id, _, _ in shown[70:]], got
    # a device that has everything is told of nothing
    have = {ALICE_BOB: max(s for s, _ in bob.shown[ALICE_BOB].values())}
    have[ALICE_BOB] = max(have[ALICE_BOB], after_all(later))
    again = Device(server, "bob", "b-pc2", have=have, synced=False)
    while not again.synced:
        assert "heads" not in again.receive()


def after_all(device):
    """The newest seq of the conversation, receipts included, once those are settled."""
    last = None
    while True:
        heads = device.ask(heads={})["heads"]["heads"]
        seq = next(int(h["lastSeq"]) for h in heads if h["conversation"] == ALICE_BOB)
        if seq == last:
            return seq
        last = seq
        time.sleep(1)


def resume(server):
    """A broken session goes on after the frame that its device had; one that was ended does not."""
    bob, alice = Device(server, "bob", "b"), Device(server, "alice", "a")
    for i in range(5):
        bob.say(f"m{i}", to=ALICE)
    alice.until_shown(ALICE_BOB, 2)
    old = {"session": alice.welcome["session"], "n": alice.n}
    alice.cut()
    for i in range(5, 10):
        bob.say(f"m{i}", to=ALICE)
    back = Device(server, "alice", "a", resume=old)
    assert back.welcome["resumed"] is True, back.welcome
    assert back.welcome["session"] == old["session"]
    back.synced, back.shown = True, alice.shown
    back.until_shown(ALICE_BOB, 10)
    assert [t for *_, t in back.texts(ALICE_BOB)] == [f"m{i}" for i in range(10)]
    back.say("still here", to=BOB)
    old = {"session": back.welcome["session"], "n": back.n}
    back.bye()
    anew = Device(server, "alice", "a", resume=old | {"n": 0})
    assert "resumed" not in anew.welcome and anew.welcome["session"] != old["session"]
    anew.page_back(ALICE_BOB)
    assert [t for *_, t in anew.texts(ALICE_BOB)] == [f"m{i}" for i in range(10)] + ["still here"]


def strict(server):
    """What is not the JSON mapping of a frame is refused with its code, and the connection closed."""
    bad = {
        "an unknown field": '{"ping":{},"more":1}',
        "an unknown field further in": '{"ping":{"nonce":"1","x":null}}',
        "an unknown frame": '{"pang":{}}',
        "two frames in one": '{"ping":{},"bye":{}}',
        "something after it": '{"ping":{}} {"ping":{}}',
        "half of it": '{"ping":{',
        "no object": '[]',
        "null": "null",
        "nothing": "",
        "a negative number": '{"ping":{"nonce":"-1"}}',
        "a number that is too large": '{"ping":{"nonce":"18446744073709551616"}}',
        "a number with a fraction": '{"ping":{"nonce":"1.5"}}',
        "a text for a number": '{"ping":{"nonce":"one"}}',
        "a text for a bool": '{"typing":{"conversation":"x","active":"yes"}}',
        "an unknown enum": '{"setPresence":{"status":"STATUS_ASLEEP"}}',
        "a deep nest": '{"ping":' * 200 + "{}" + "}" * 200,
        "a deep list": "[" * 5000,
        "half a surrogate": '{"setPresence":{"message":"\\ud800"}}',
    }
    for what, text in bad.items():
        device = Device(server, "alice", "strict")
        device.ws.send(text)
        try:
            closing = device.until("closing")["closing"]
        except TimeoutError:
            raise AssertionError(f"{what} was taken") from None
        assert closing["code"] == "malformed", (what, closing)
        try:
            device.ws.recv(timeout=PATIENCE_S)
            raise AssertionError(f"{what}: the connection goes on")
        except ConnectionClosed:
            pass
    device = Device(server, "alice", "strict")
    # the mapping allows names as in the .proto file, numbers as numbers and null for unset
    device.send({"ping": {"nonce": 9}, "ack": None})
    device.until("pong", lambda p: p["nonce"] == "9")
    device.send({"submit": {"event_id": uuid7(), "to": BOB, "body": {"text": {"text": "ok"}}}})
    device.until("accepted")
    try:
        connect(f"ws://127.0.0.1:{server.port}/v1/connect", subprotocols=["tandem.v2"])
        raise AssertionError("an unknown subprotocol was accepted")
    except Exception as refused:  # its name differs between versions of the library
        assert "400" in str(refused), refused


if __name__ == "__main__":
    scenario, port, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        server = Server(int(port), file.read())
    {"page": page, "bodies": bodies, "talk": talk, "resume": resume, "strict": strict}[scenario](server)
    print(f"{scenario}: done")
