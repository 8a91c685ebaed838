#!/usr/bin/env bash
# meshes.sh DIR: the meshes of Debian's package libcgal-demo as a small set of point clouds in four classes, every fourth
# mesh of a class for testing. The package is unpacked, not installed.
set -euo pipefail
out=$(realpath -m "${1:?the folder to write}")
[[ ! -e $out ]] || { echo "$out exists already: name a new folder" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq libcgal-demo 2>/dev/null || { echo "apt-get cannot download libcgal-demo: see 'apt-get update'" >&2; exit 1; }
dpkg -x libcgal-demo_*.deb .
tar -xzf usr/share/doc/libcgal-dev/data.tar.gz

quadrupeds="bear bear_bis bull bunny00 camel cow diplodocus elephant elephant-with-holes elk lion pig
    refined_elephant triceratops"
figures="armadillo dino hand head homer lion-head man mannequin-devil nefertiti"
machines="ALSTOM_TEST4 anchor anchor_dense b9_mesh blade couplingdown dragknob fandisk fandisk_large handle holes itemb
    joint mech-holes-shark part pinion pinion_small pipe rotor rotor_small spool turbine"
solids="3torus cheese-box cube-meshed cylinder double-torus-example eight ellipe0.003 ellipsoid geosphere hedra
    icosahedron knot knot1 knot2 larger_sphere oblong octahedron pyramid sphere sphere966 star tetrahedron torus_quad"
for class in quadrupeds figures machines solids; do
    i=0
    for name in ${!class}; do
        i=$((i + 1))
        split=$([[ $((i % 4)) == 0 ]] && echo test || echo train)
        mkdir -p "$out/$split/$class"
        cp "data/meshes/$name.off" "$out/$split/$class/"
    done
done
echo "$(find "$out" -name '*.off' | wc -l) meshes in $out"
