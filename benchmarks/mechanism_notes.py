"""What `docs/mechanisms.md` says of each mechanism besides its figures; one note for every name in MECHANISMS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MechanismNote:
    """The words on one mechanism.

    Attributes:
        source: where it is published.
        equation: of one head.
        cost: multiply-accumulates of N tokens of width C, with d the width of a head.
        use: when to choose it.
        departures: how it differs from its source, and why.
    """

    source: str
    equation: str
    cost: str
    use: str
    departures: str


NOTES = {
    "softmax": MechanismNote(
        "Vaswani et al., arXiv 1706.03762",
        "softmax(Q Kᵀ / √d) V",
        "4 N C² + 2 N² C",
        "Up to a few hundred tokens, with published weights, or as the twin that another mechanism is compared with.",
        "None. It runs through PyTorch's fused kernel, which never stores the N × N matrix.",
    ),
    "sequence_norm": MechanismNote(
        "arXiv 2406.01314",
        "Q̂ (K̂ᵀ V̂ / N), where t̂ = γ (t − mean over tokens) / √(variance over tokens + ε) + β",
        "4 N C² + 2 N C d folded; 2 N C² + 4 C³ + 2 C² d from the Gram matrix; the smaller is taken",
        "The default. From a thousand tokens it is the fastest here by far, and the only one whose memory is that of its "
        "output. Entries of its matrix are signed and rows do not sum to one: do not read them as probabilities.",
        "The paper leaves variance, eps, the place of 1/N and masks open; what is done stands in "
        "[decision 3](decisions/0003-sequence-norm-open-points.md). The evaluation from the Gram matrix is ours.",
    ),
    "sima": MechanismNote(
        "Koohpayegani and Pirsiavash, arXiv 2206.08898",
        "(Q / ‖Q‖₁) (K / ‖K‖₁)ᵀ V, norms over the tokens",
        "4 N C² + 2 N C min(N, d)",
        "As a baseline for sequence_norm. Its output shrinks as 1/N, so it weakens as images grow.",
        "Only the attention is taken, not the backbone around it. Norms and products are in float32 under autocast; both "
        "norms are folded into the d × d matrix.",
    ),
    "soft": MechanismNote(
        "Lu et al., arXiv 2110.11945",
        "Pᵀ inv(A + 0.01 I) P V with Gaussian kernels A between m landmarks and P between landmarks and tokens",
        "N C² + N m C + the least of 2 N C (C + m) and 2 m C (h N + C), and the inverse of h matrices m × m; m = 49",
        "When a linear cost with positive, local-in-feature weights is wanted. For new training on a CPU give "
        '`{"name": "soft", "inverse": "cholesky"}`.',
        "Landmarks are the means of 7 × 7 cells of any grid, so the cost is linear; the released form is an option. All "
        "points are in [decision 9](decisions/0009-soft.md).",
    ),
    "soft_norm": MechanismNote(
        "Lu et al., arXiv 2207.03341",
        "Pᵀ D^(−½) inv(A + 0.01 I) D^(−½) P V, D the row sums of A",
        "as soft",
        "Like soft, where its output should not grow with the landmarks.",
        "The published one cannot be constructed, takes its first Newton step from the whole batch, and has no jitter; "
        "here every matrix is by itself. See [decision 9](decisions/0009-soft.md).",
    ),
    "kv": MechanismNote(
        "Borji, arXiv 2305.19129; Hwa et al., arXiv 2503.18862",
        "softmax(K Kᵀ / √d) V",
        "3 N C² + 2 N² C",
        "To save a twelfth of a block's parameters at up to a few hundred tokens. The product of N² stays.",
        "The scale is that of the head's width, so that a comparison with softmax is not one of temperatures.",
    ),
    "kv_pos": MechanismNote(
        "Borji, arXiv 2305.19129; Hwa et al., arXiv 2503.18862",
        "softmax over j of (α K Kᵀ / √d + g(j)) V",
        "that of kv + N (m − c), with m = 50 and c = 26 channels of the position code",
        "Like kv, where tokens should know their place and the network has no positions of its own.",
        "Published with a table of N × N × m and one linear map, which equals one temperature and one bias a key exactly; "
        "that form is evaluated here. The temperature starts at 1 and not at a random sign (`faithful_init` for that).",
    ),
    "local": MechanismNote(
        "Ramachandran et al., arXiv 1906.05909; arXiv 2209.15287",
        "softmax over the k × k window of (q · (k + e)) V, e of row and column; k = 7",
        "4 N C² + 3 k² N C",
        "Where neighbours are what matters and maps are large: its cost is linear, and weights can be drawn on the image. A "
        "convolution of 3 × 3 is still several times faster.",
        "The published code mixes pixels by a reshape, has no 1/√d and gives the first heads rows only; this is the method "
        "as it is described. See [decision 8](decisions/0008-window-attention.md).",
    ),
    "adaptive": MechanismNote(
        "Lin et al., arXiv 2206.14413",
        "softmax over kept entries of (Q Kᵀ / √d + T[dy, dx] + 0.01 exp(−δ / 2σ²)) V",
        "4 N C² + 2 N² C + N C for the gate; with n queries and m keys kept: n C² + 2 m C² + 2 n m C + n C²",
        "Where a network can say which tokens are background: dropped queries and keys are skipped, not masked. Without "
        "them it costs more than softmax.",
        "The published gate gets no gradient; here it learns under a budget. Rows of dropped queries are zero in training "
        "too. See [decision 10](decisions/0010-adaptive.md).",
    ),
}
