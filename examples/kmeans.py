"""Find the centres of clusters of points with Lloyd's algorithm, and compare them with the true centres.

    runmem --python_memory_profile examples/kmeans.py [--points N] [--blocks N] [--clusters N] ...
    python examples/kmeans.py [--points N] [--blocks N] [--clusters N] ...

A task makes each block of points, which stays on its worker. An iteration sums the points nearest to each centre, with
one task per block, and adds the sums in a tree. The exit code is 1 if the centres are not found.
"""

import argparse
import sys

import numpy as np

from runmem import task, wait_on

SEED = 20170718
NOISE = 1.0  # standard deviation of a coordinate
TOLERANCE = 1e-6  # stop after an iteration that moves no centre farther


@task(returns=1)
def make_block(centres, points, block):
    """Return points near random centres; reproducible for each block number."""
    random = np.random.default_rng([SEED, block])
    near = random.integers(len(centres), size=points)
    return centres[near] + random.normal(scale=NOISE, size=(points, centres.shape[1]))


@task(returns=1)
def first_centres(block, clusters):
    """Return initial centres: points of `block`, each the farthest one from those before."""
    chosen = [block[0]]
    distance = ((block - chosen[0]) ** 2).sum(axis=1)
    while len(chosen) < clusters:
        chosen.append(block[distance.argmax()])
        distance = np.minimum(distance, ((block - chosen[-1]) ** 2).sum(axis=1))
    return np.array(chosen)


@task(returns=1)
def partial_sums(block, centres):
    """Return the sum of the points nearest to each centre, with their number as the last column."""
    distances = np.stack([((block - centre) ** 2).sum(axis=1) for centre in centres])
    nearest = distances.argmin(axis=0)
    mine = [block[nearest == number] for number in range(len(centres))]
    return np.array([[*points.sum(axis=0), len(points)] for points in mine])


@task(returns=1)
def add_sums(left, right):
    """Add two results of `partial_sums`."""
    return left + right


def added(sums):
    """Add all `sums`, two at a time."""
    while len(sums) > 1:
        pairs = [sums[start : start + 2] for start in range(0, len(sums), 2)]
        sums = [add_sums(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return sums[0]


def true_centres(clusters, dimensions):
    """Return centres with clusters that do not overlap: no two share a coordinate."""
    spacing = 12 * NOISE * (1 + 4 / dimensions**0.5)
    random = np.random.default_rng(SEED)
    return np.stack([random.permutation(clusters) for _ in range(dimensions)], axis=1) * spacing


def find_centres(blocks, clusters, iterations):
    """Return the centres and the number of iterations, at most `iterations`."""
    centres = wait_on(first_centres(blocks[0], clusters))
    done, shift = 0, np.inf
    while done < iterations and shift > TOLERANCE:
        sums = wait_on(added([partial_sums(block, centres) for block in blocks]))
        count = sums[:, -1:]
        moved = np.where(
            count > 0, sums[:, :-1] / np.maximum(count, 1), centres
        )  # a centre without points does not move
        done, shift, centres = done + 1, np.abs(moved - centres).max(), moved
    return centres, done


def parsed():
    """Parse the arguments; exit with 2 if they are invalid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("points", 2_000_000),
        ("blocks", 16),
        ("dimensions", 4),
        ("clusters", 8),
        ("iterations", 20),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default: {default:,}")
    arguments = parser.parse_args()
    if min(vars(arguments).values()) < 1:
        parser.error("every number must be 1 or more")
    if arguments.points // arguments.blocks < arguments.clusters:
        parser.error(
            "a block must have at least as many points as there are clusters: use more --points or fewer --blocks"
        )
    return arguments


def main():
    arguments = parsed()
    truth = true_centres(arguments.clusters, arguments.dimensions)
    size = arguments.points // arguments.blocks
    blocks = [make_block(truth, size, number) for number in range(arguments.blocks)]
    centres, iterations = find_centres(blocks, arguments.clusters, arguments.iterations)
    distances = np.linalg.norm(truth[:, None] - centres[None], axis=2).min(axis=1)
    # The standard error of the mean of n points is NOISE / sqrt(n) per coordinate; allow six of these.
    per_cluster = size * arguments.blocks / arguments.clusters
    tolerance = 6 * NOISE * (arguments.dimensions / per_cluster) ** 0.5
    print(f"{size * arguments.blocks:,} points in {arguments.blocks} blocks, {iterations} iterations")
    print(f"largest distance of a centre from the true one: {distances.max():.6f} (tolerance {tolerance:.6f})")
    if distances.max() > tolerance:
        sys.exit(f"kmeans: {(distances > tolerance).sum()} of {arguments.clusters} centres were not found")


if __name__ == "__main__":
    main()
