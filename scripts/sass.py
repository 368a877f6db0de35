"""The loops of the kernels' machine code, for scripts/cuda-check.

A loop is what its back edges, branches to a block that dominates them, go round. Counted is one way through it, without the
loops inside: the one with most matrix instructions, or multiply-adds, and of these the shortest. `kernels/loops.md` says what
is made of the counts.
"""

import collections
import concurrent.futures
import dataclasses
import pathlib
import re
import subprocess
import tempfile

ARCHITECTURE = "sm_90a"
REGISTERS, THREADS, BLOCKS, SCHEDULERS = 65536, 2048, 32, 4
# Bytes of shared memory of a multiprocessor, of which each block takes 1 KiB for the system.
SHARED = {"80": 164 << 10, "90a": 228 << 10, "100": 228 << 10}
# Cycles that one instruction of a warp keeps a scheduler's pipe. A scheduler's tensor core does 512 multiply-adds a cycle in 16
# bits, 256 in TF32, of which `mma.sync` reaches 63 % on an H100 (Luo et al., 2024, arXiv 2402.13499): m16n8k16 and m16n8k8 alike.
MMA_CYCLES, MUFU_CYCLES = 6.4, 8

# Kernels whose loops are those of another one, and its name.
AS = [("_f16$", "_bf16"), ("^contrastive_cross", "contrastive_all"), ("^conv2d", "conv1d")]
# Kernels that must have a hot loop: else the reading is wrong, or they are.
LOOPED = ["contrastive_all", "contrastive_all_bf16", "conv1d_fwd", "conv1d_bwd_x", "conv1d_bwd_w", "conv_block_fwd"]
LOOPED += ["conv_block_bwd", "similarity_fwd", "similarity_fwd_bf16", "similarity_bwd"]

KERNEL_COLUMNS = ["kernel", "code", "threads", "registers", "shared", "blocks an SM", "warps"]
LOOP_COLUMNS = ["kernel", "loop", "instructions", "of them", "per FMA or MMA"]
LOOP_COLUMNS += ["LDS", "LDG", "MUFU", "BAR", "CALL", "at most", "binds"]
HEAD = """
# What the kernels' machine code says

Written by `scripts/cuda-check`, nvcc {version}, from the machine code for sm_90a: a reading, no line of it measured by a card.
[Read off the machine code](README.md#read-off-the-machine-code) has how far such readings were off.

**Kernels**: bytes of code; threads and bytes of shared memory of a block, over the timed cases of the case table; blocks that a
multiprocessor of sm_80 / 90a / 100 holds by them and by registers; warps of 64, on sm_90a.

**Loops** that have a matrix instruction (MMA) of their own, or 16 multiply-adds (FMA; 64 where there are loops inside), and the
function of the sources that they stand in; × how often one is in the code, once an instance of a template or a copy that nvcc
made. Counted is one way through a turn, the shortest of those with most MMA or FMA: nothing is fetched for the turns to come, no
pair is near. Where there are others, all instructions of the loop (16 bytes each) stand after the stroke; a turn is between the
two. An outer loop is counted without those inside it, and no loop with what it calls; how often a turn is made is not known. LDS
is bytes that a thread reads from shared memory; LDG counts asynchronous copies too.

*Binds*: what takes most cycles of a turn of one warp on each of four schedulers: an instruction takes one (issue, or FMA where at
least 85 % are), an MMA 6.4 by `mma.sync`, a MUFU 8. *At most* is the share of the FMA or MMA rate that this leaves. "or shared":
128 bytes a cycle would take longer still, where no two lanes read the same word. Latency, bank conflicts, the clock, and what the
second cache and the memory do are left out.

The loops of conv2d and of contrastive_cross are those of conv1d and contrastive_all again, and those of f16 rows those of bf16.
"""

LOCATION = re.compile(r'\s*//## File "([^"]+)", line (\d+)')
SECTION = re.compile(r"\s*\.section\s+\.text\.(\w+),")
LABEL = re.compile(r"([.$\w]+):")
INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@(\S+)\s+)?([A-Z]\w*)(\S*)\s*(.*?)\s*;")


@dataclasses.dataclass
class Block:
    """Straight code: (opcode, modifiers, place in the sources), and where it goes on: labels or numbers of blocks."""

    code: list
    to: list


@dataclasses.dataclass
class Loop:
    where: tuple  # file and line of the branch back, which are those of the `for`
    inside: int  # loops in it
    all: int  # instructions without those, all ways together
    counts: collections.Counter  # of the way that is counted

    @property
    def hot(self):
        fmas = self.counts["fma"]
        return self.counts["mma"] > 0 or fmas >= 64 or (fmas >= 16 and self.inside == 0)


def disassemble(tools, fatbin):
    with tempfile.TemporaryDirectory() as folder:
        extract = [tools / "cuobjdump", "-xelf", ARCHITECTURE, fatbin.resolve()]
        subprocess.run(extract, cwd=folder, check=True, capture_output=True)
        (cubin,) = pathlib.Path(folder).iterdir()
        return subprocess.run([tools / "nvdisasm", "-g", "-c", cubin], check=True, capture_output=True, text=True).stdout


def parse(text):
    """The blocks of each entry point, with those of the functions that it calls; and the block of each label."""
    entries, blocks = {}, None
    for line in text.splitlines():
        if m := SECTION.match(line):
            blocks, labels, fresh, address, located, where = [], {}, True, 0, False, ("", 0)
            entries[m[1]] = (blocks, labels)
        elif blocks is None:
            continue
        elif m := LOCATION.match(line):
            # The innermost place stands first, those it was inlined at follow.
            if not located:
                located, where = True, (m[1].rsplit("/", 1)[-1], int(m[2]))
        elif m := LABEL.match(line):
            if not fresh:
                if falls:
                    blocks[-1].to.append(len(blocks))
                fresh = True
            labels[m[1]] = len(blocks)
        elif m := INSTRUCTION.match(line):
            at, predicate, op, modifiers, rest = m.groups()
            if int(at, 16) != address:
                raise ValueError(f"not understood, before {line.strip()}")
            if fresh:
                blocks.append(Block([], []))
            # nvcc writes small constants by multiply-adds of nothing.
            op = "MOV" if op in ("HFMA2", "FFMA") and "-RZ, RZ" in rest else op
            blocks[-1].code.append((op, modifiers, where))
            address, located, fresh, falls = address + 16, False, False, True
            target = re.search(r"`\(([^)]+)\)", rest)
            if op in ("BRA", "EXIT", "RET") or (op == "WARPSYNC" and target):
                if target and op != "RET":
                    blocks[-1].to.append(target[1])
                # A branch may have its condition among its operands.
                falls = bool(predicate) or op == "WARPSYNC" or ".DIV" in modifiers or bool(re.match(r"!?U?P\d", rest))
                if falls:
                    blocks[-1].to.append(len(blocks))
                fresh, falls = True, False
    return entries


class Flow:
    """Where blocks go on, and who dominates whom."""

    def __init__(self, blocks, labels):
        root = self.root = len(blocks)
        succ = [[labels[t] if isinstance(t, str) else t for t in b.to] for b in blocks]
        # The padding at the end goes on to nowhere.
        self.succ = [[t for t in ts if t < root] for ts in succ]
        self.pred = [[] for _ in range(root)]
        for b, ts in enumerate(self.succ):
            for t in ts:
                self.pred[t].append(b)
        # Where the entry point and the functions begin, and where they return to.
        starts = [b for b in range(root) if not self.pred[b] or b == 0]
        self.succ.append(starts)
        for b in starts:
            self.pred[b].append(root)
        self.order = self.reverse_postorder()
        self.above = self.dominators()

    def reverse_postorder(self):
        order, seen, stack = [], {self.root}, [(self.root, iter(self.succ[self.root]))]
        while stack:
            node, rest = stack[-1]
            if (t := next(rest, None)) is None:
                order.append(node)
                stack.pop()
            elif t not in seen:
                seen.add(t)
                stack.append((t, iter(self.succ[t])))
        return {b: i for i, b in enumerate(reversed(order))}

    def dominators(self):
        """The immediate dominator of each block (Cooper, Harvey and Kennedy, 2001)."""
        above, changed = {self.root: self.root}, True
        while changed:
            changed = False
            for b in list(self.order)[1:]:
                known = [p for p in self.pred[b] if p in above]
                new = known[0]
                for p in known[1:]:
                    while p != new:
                        if self.order[p] > self.order[new]:
                            p = above[p]
                        else:
                            new = above[new]
                if above.get(b) != new:
                    above[b], changed = new, True
        return above

    def dominates(self, head, b):
        while b not in (head, self.root):
            b = self.above[b]
        return b == head

    def loops(self):
        """The blocks of each loop and those that go back, by the loop's head."""
        found = {}
        for b in self.order:
            for head in self.succ[b]:
                if b != self.root and self.dominates(head, b):
                    body, backs = found.setdefault(head, ({head}, []))
                    backs.append(b)
                    todo = [b]
                    while todo:
                        if (x := todo.pop()) not in body:
                            body.add(x)
                            todo += (p for p in self.pred[x] if p in self.order)
        return found

    def way(self, head, body, backs, worth, length):
        """The blocks of the way from `head` to one of `backs` that is worth most, and of these the shortest."""
        best = {head: ((worth(head), -length(head)), None)}
        for b in sorted(body, key=self.order.get):
            for t in self.succ[b]:
                if b in best and t in body and self.order[t] > self.order[b]:
                    value = best[b][0][0] + worth(t), best[b][0][1] - length(t)
                    if t not in best or value > best[t][0]:
                        best[t] = value, b
        b, way = max((b for b in backs if b in best), key=lambda b: best[b][0]), []
        while b is not None:
            way.append(b)
            b = best[b][1]
        return way


def counted(code):
    counts = collections.Counter(all=len(code))
    for op, modifiers, _ in code:
        if op in ("FFMA", "HFMA2", "FFMA2"):
            counts["fma"] += 1
        elif op == "HMMA" and re.match(r"\.16816\.F32(\.BF16)?$|\.1688\.F32\.TF32$", modifiers):
            counts["mma"] += 1
            counts[f"HMMA{modifiers}"] += 1
        elif "MMA" in op:
            raise ValueError(f"{op}{modifiers}: how many cycles does it take?")
        elif op in ("LDS", "LDSM"):
            wide = 4 if re.search(r"\.(128|4)$", modifiers) else 2 if re.search(r"\.(64|2)$", modifiers) else 1
            counts["lds"] += 4 * wide
        elif op in ("LD", "LDG", "LDGSTS"):
            counts["ldg"] += 1
        elif op in ("STS", "BAR", "MUFU", "CALL"):
            counts[op.lower()] += 1
    return counts


def loops(blocks, labels):
    flow = Flow(blocks, labels)
    found, out = flow.loops(), []
    of = [counted(b.code) for b in blocks]
    for head, (body, backs) in found.items():
        inner = [other for h, (other, _) in found.items() if h != head and h in body]
        own = body.difference(*inner)
        kind = "mma" if any(of[b]["mma"] for b in own) else "fma"
        # A call leads off the way that most turns take.
        length = [c["all"] + 1000 * c["call"] if b in own else 0 for b, c in enumerate(of)]
        way = flow.way(head, body, backs, lambda b: of[b][kind], length.__getitem__)
        counts = sum((of[b] for b in way if b in own), collections.Counter())
        out.append(Loop(blocks[backs[0]].code[-1][2], len(inner), sum(of[b]["all"] for b in own), counts))
    return out


def blocks_an_sm(arch, registers, threads, shared):
    """Blocks that a multiprocessor holds at once."""
    warps = threads // 32
    # Registers go to warps by 256, and each scheduler has a quarter of them.
    fit = REGISTERS // SCHEDULERS // (-(-registers * 32 // 256) * 256) * SCHEDULERS
    of_shared = SHARED[arch] // (-(-(shared + 1024) // 128) * 128)
    return min(fit // warps, of_shared, THREADS // threads, BLOCKS)


def binds(counts):
    """What holds a scheduler's warps up longest, by counts alone, and how many cycles a turn."""
    cycles = {
        "issue": counts["all"],
        "tensor cores": MMA_CYCLES * counts["mma"],
        "MUFU": MUFU_CYCLES * counts["mufu"],
        # 128 bytes a cycle for four schedulers, where all lanes read other words.
        "shared": counts["lds"],
    }
    least = max(cycles["issue"], cycles["tensor cores"], cycles["MUFU"])
    words = [name for name in ("tensor cores", "MUFU", "issue") if cycles[name] == least][:1]
    if words == ["issue"] and counts["fma"] >= 0.85 * counts["all"]:
        words = ["FMA"]
    if cycles["shared"] > least:
        words.append("or shared")
    return " ".join(words), least


def function_of(folder, file, line):
    """The name of the function that holds a line of a source: it stays where comments move lines."""
    text = (folder / file).read_text().splitlines()[:line] if (folder / file).exists() else []
    starts = [n for n, code in enumerate(text) if re.search(r"\b__(device|global)__\b", code)]
    if not starts:
        return file
    declared = re.sub(r"__launch_bounds__\([^)]*\)", "", " ".join(text[starts[-1] :]))
    return file + " " + re.search(r"(\w+)\(", declared)[1]


def hot_loops(blocks, labels):
    """A row for each loop that is hot, and how many there are of it."""
    rows = collections.Counter()
    for loop in loops(blocks, labels):
        c = loop.counts
        if not loop.hot:
            continue
        kind = "mma" if c["mma"] else "fma"
        by, cycles = binds(c)
        shapes = {k.removeprefix("HMMA.").replace(".F32", "").replace(".", " ") for k in c if k.startswith("HMMA.")}
        of = f"{c[kind]} {' '.join(sorted(shapes)) if c['mma'] else 'FMA'}"
        counts = sorted({c["all"], loop.all})
        a_turn = [" / ".join(map(str, counts)), of, " / ".join(f"{n / c[kind]:.2f}" for n in counts)]
        a_turn += [c[k] for k in ("lds", "ldg", "mufu", "bar", "call")]
        busy = (MMA_CYCLES if c["mma"] else 1) * c[kind] / cycles
        rows[(*loop.where, -loop.all, loop.inside > 0, *a_turn, f"{100 * busy:.0f} %", by)] += 1
    return sorted(rows.items())


def check(entries):
    """Fails where the reading itself is wrong, by a loop that is known: that of `ceiling_fma` has 128 multiply-adds."""
    found = [(-row[2], row[5]) for row, _ in hot_loops(*entries["ceiling_fma"])]
    if len(found) != 1 or found[0][1] != "128 FMA" or not 129 <= found[0][0] <= 140:
        raise ValueError(f"the loop of ceiling_fma is read as {found}")
    for kernel in LOOPED:
        if not hot_loops(*entries[kernel]):
            raise ValueError(f"{kernel} has no hot loop")


def span(values):
    return "–".join(map(str, sorted({min(values), max(values)})))


def table(tools, version, folder, fatbins, resources, launches):
    """`kernels/loops.md`: of `resources`, rows (kernel, architecture, registers, static shared bytes, ...), and `launches`."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        texts = list(pool.map(lambda fatbin: disassemble(tools, fatbin), fatbins))
    stems = {fatbin.stem: parse(text) for fatbin, text in zip(fatbins, texts)}
    entries = {kernel: code for stem in stems.values() for kernel, code in stem.items()}
    check(entries)
    size = {kernel: 16 * sum(len(b.code) for b in blocks) for kernel, (blocks, _) in entries.items()}
    lines = [HEAD.format(version=version).strip(), "", "## Kernels", "", *header(KERNEL_COLUMNS)]
    used = {(r[0], r[1].removeprefix("sm_")): r[2:4] for r in resources}
    for stem, kernels in stems.items():
        for kernel in sorted(kernels):
            threads = max(t for t, _ in launches[kernel])
            held = []
            for arch in SHARED:
                registers, static = used[kernel, arch]
                held.append([blocks_an_sm(arch, registers, threads, static + dynamic) for _, dynamic in launches[kernel]])
            registers, static = used[kernel, "90a"]
            shared = span([static + dynamic for _, dynamic in launches[kernel]])
            warps = span([blocks * threads // 32 for blocks in held[1]])
            lines.append(cells(kernel, size[kernel], threads, registers, shared, " / ".join(map(span, held)), warps))
        lines.append(cells(f"all of {stem}.cu", sum(size[kernel] for kernel in kernels), *[""] * 5))
    lines += ["", "## Loops", "", *header(LOOP_COLUMNS)]
    for kernel in sorted(entries):
        if any(re.sub(pattern, other, kernel) in entries for pattern, other in AS if re.search(pattern, kernel)):
            continue
        for (file, line, _, outer, *rest), times in hot_loops(*entries[kernel]):
            where = function_of(folder, file, line) + (", outer" if outer else "") + (f" × {times}" if times > 1 else "")
            lines.append(cells(kernel, where, *rest))
    return "\n".join(lines) + "\n"


def cells(*values):
    return "| " + " | ".join(map(str, values)) + " |"


def header(names):
    return [cells(*names), "|" + "---|" * len(names)]
