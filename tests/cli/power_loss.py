"""What a file system may hold after the power fails: replays the log of a run (io_faults.c).

What is not synced may be on the disk or not, each for itself: bytes of a file until that file is synced, its size
likewise (bytes that are missing below it are zeros), an entry of a folder until that folder is synced. A rename is on the
disk whole or not at all, and may be there without the bytes of what it named."""
import itertools
import random
import re
from dataclasses import dataclass, field

RENAME_EXCHANGE = 2


@dataclass
class File:
    content: bytes
    inode: int = 0


@dataclass
class Folder:
    entries: dict = field(default_factory=dict)  # name -> place in a list of nodes
    inode: int = 0


@dataclass
class Operation:
    kind: str
    node: int          # the file or folder that it changes
    arguments: tuple
    syncs: bool = False


class Disk:
    """A folder as it stands before a run, and what the run then did below it."""

    def __init__(self, folder):
        self.nodes, self.operations, self.by_inode = [], [], {}
        self.root = self._add(folder)

    def _add(self, path):
        inode = path.stat().st_ino
        node = Folder(inode=inode) if path.is_dir() else File(path.read_bytes(), inode)
        self.nodes.append(node)
        place = self.by_inode[inode] = len(self.nodes) - 1
        if path.is_dir():
            node.entries = {entry.name: self._add(entry) for entry in sorted(path.iterdir())}
        return place

    def read(self, log):
        """What the run did to other folders, and to files that are in none of these, is left out."""
        content, at = log.read_bytes(), 0
        while at < len(content):
            end = content.index(b"\n", at)
            kind, *words = content[at:end].decode().split(" ")
            at = end + 1
            first = self.by_inode.get(int(words[0]))
            if kind == "write":
                data = content[at:at + int(words[2])]
                at += len(data)
                self._note(kind, first, int(words[1]), data)
            elif kind in ("size", "reserve"):
                self._note(kind, first, int(words[1]))
            elif kind == "sync":
                self._note(kind, first, syncs=True)
            elif kind == "unlink":
                self._note(kind, first, words[1])
            elif kind in ("create", "mkdir"):
                if first is not None:
                    self.nodes.append(File(b"", int(words[1])) if kind == "create" else Folder(inode=int(words[1])))
                    self.by_inode[int(words[1])] = len(self.nodes) - 1
                    self._note(kind, first, words[2], len(self.nodes) - 1)
            else:
                assert kind in ("rename", "link") and words[0] == words[2], "a rename into another folder"
                self._note(kind, first, words[1], words[3], int(words[4]))
        return self

    def _note(self, kind, node, *arguments, syncs=False):
        if node is not None:
            self.operations.append(Operation(kind, node, arguments, syncs))

    def after(self, n_operations, lost=(), torn=None):
        """The nodes when the first `n_operations` were made but for those in `lost`, and half of the write `torn`."""
        nodes = [File(node.content, node.inode) if isinstance(node, File) else Folder(dict(node.entries), node.inode)
                 for node in self.nodes]
        files = {}  # node -> bytearray
        # Names come to stand for nodes in the order of the calls, also of those that are lost.
        seen = [dict(node.entries) if isinstance(node, Folder) else None for node in self.nodes]
        for i, operation in enumerate(self.operations[:n_operations]):
            if operation.kind in ("write", "size", "reserve"):
                if i in lost:
                    continue
                content = files.setdefault(operation.node, bytearray(nodes[operation.node].content))
                first = operation.arguments[0]
                if operation.kind == "write":
                    data = operation.arguments[1]
                    data = data[:len(data) // 2] if i == torn else data
                    content.extend(bytes(max(0, first + len(data) - len(content))))
                    content[first:first + len(data)] = data
                else:
                    content.extend(bytes(max(0, first - len(content))))
                    if operation.kind == "size":
                        del content[first:]
                continue
            if operation.syncs:
                continue
            here, change = seen[operation.node], {}
            name, *more = operation.arguments
            if operation.kind in ("create", "mkdir"):
                change = {name: more[0]}
            elif operation.kind == "unlink":
                change = {name: None}
            elif operation.kind == "link":
                change = {more[0]: here[name]}
            else:
                change = {name: here.get(more[0]) if more[1] & RENAME_EXCHANGE else None, more[0]: here[name]}
            here.update(change)
            if i in lost:
                continue
            for name, node in change.items():
                if node is None:
                    nodes[operation.node].entries.pop(name, None)
                else:
                    nodes[operation.node].entries[name] = node
        for node, content in files.items():
            nodes[node].content = bytes(content)
        return nodes

    def pending(self, n_operations):
        """Places of operations that may be lost when power fails behind the first `n_operations`."""
        synced, places = set(), []
        for i in reversed(range(n_operations)):
            operation = self.operations[i]
            if operation.syncs:
                synced.add(operation.node)
            elif operation.node not in synced:
                places.append(i)
        return places[::-1]

    def states(self, most, seed=0):
        """(operations made, nodes) of what may be on the disk: after each operation all of what is pending, none of it,
        only its data, only its names, all but one or two, or all but a half of one write. Of more than `most` a choice."""
        chosen = random.Random(seed)
        ways = []
        for n in range(len(self.operations) + 1):
            pending = self.pending(n)
            data = {i for i in pending if self.operations[i].kind in ("write", "size", "reserve")}
            writes = {i for i in data if self.operations[i].kind == "write"}
            pairs = itertools.combinations(pending, 2)
            if len(pending) ** 2 > 2 * most:
                pairs = [chosen.sample(pending, 2) for _ in range(most)]
            lost = [(), pending, data, set(pending) - data, writes, *([i] for i in pending), *pairs]
            ways += [(n, one, None) for one in dict.fromkeys(map(frozenset, lost))] + [(n, (), i) for i in sorted(writes)]
        for n, lost, torn in ways if len(ways) <= most else chosen.sample(ways, most):
            yield n, self.after(n, lost, torn)

    def tree(self, nodes, place=None):
        """name -> bytes or the same of a folder."""
        node = nodes[self.root if place is None else place]
        if isinstance(node, File):
            return node.content
        return {name: self.tree(nodes, inner) for name, inner in sorted(node.entries.items())}

    def write(self, nodes, folder):
        """The state as a true folder. Journals of runs speak of inodes: they get the new ones."""
        made = {}
        self._write(nodes, self.root, folder, made)
        for place, path in list(made.items()):
            if path.name.startswith(".phiq-run."):
                path.write_bytes(self._with_inodes(path.read_bytes(), made))

    def _write(self, nodes, place, path, made):
        node = nodes[place]
        made[place] = path
        if isinstance(node, File):
            path.write_bytes(node.content)
            return
        path.mkdir(exist_ok=True)
        for name, inner in node.entries.items():
            self._write(nodes, inner, path / name, made)

    def _with_inodes(self, text, made):
        inodes = {self.nodes[place].inode: path.stat().st_ino for place, path in made.items()}

        def new(match):
            return match[1] + b" ".join(b"%d" % (inodes.get(int(word), 1) if int(word) else 0) for word in match[2].split())

        text = re.sub(rb"(?m)^((?:file|folder) \S+ )(\d+)(?=$)", new, text)
        return re.sub(rb"(?m)^(rename \S+ \S+ \S+ )(\d+ \d+)", new, text)
