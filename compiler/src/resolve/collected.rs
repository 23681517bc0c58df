//! All declarations of a program, before any name is looked up.

use std::collections::BTreeMap;

use super::names::{Declaration, Names, Target};
use crate::ast;
use crate::diag::Diagnostic;
use crate::hir::MeshId;

/// A mesh: all blocks of one name, or one block whose name could not be read.
pub(super) struct Mesh<'a> {
    pub(super) name: Option<&'a ast::Name>,
    pub(super) blocks: Vec<&'a ast::Mesh>,
}

/// All declarations, in lists whose indices stand for them.
pub(super) struct Collected<'a> {
    /// Named ones first, sorted by name; so a named mesh's index is its id.
    pub(super) meshes: Vec<Mesh<'a>>,
    pub(super) named_meshes: usize,
    pub(super) sets: Vec<(&'a ast::Set, Option<usize>)>,
    pub(super) groups: Vec<(&'a ast::Group, usize)>,
    /// Sorted by mesh and name.
    pub(super) workloads: Vec<(&'a ast::Workload, usize)>,
}

impl<'a> Collected<'a> {
    pub(super) fn new(files: &'a [ast::File]) -> Self {
        let mut named: BTreeMap<&str, Mesh<'a>> = BTreeMap::new();
        let mut nameless = Vec::new();
        for block in files.iter().flat_map(|file| &file.meshes) {
            match &block.name {
                Some(name) => {
                    let mesh = named.entry(&name.value);
                    mesh.or_insert(Mesh { name: Some(name), blocks: Vec::new() }).blocks.push(block);
                }
                None => nameless.push(Mesh { name: None, blocks: vec![block] }),
            }
        }
        let named_meshes = named.len();
        let meshes: Vec<Mesh<'a>> = named.into_values().chain(nameless).collect();
        let top = files.iter().flat_map(|file| &file.sets).map(|set| (set, None));
        let inner = blocks(&meshes).flat_map(|(i, block)| block.sets.iter().map(move |set| (set, Some(i))));
        let sets = top.chain(inner).collect();
        let groups =
            blocks(&meshes).flat_map(|(i, block)| block.groups.iter().map(move |group| (group, i))).collect();
        let mut workloads: Vec<(&ast::Workload, usize)> = blocks(&meshes)
            .flat_map(|(i, block)| block.workloads.iter().map(move |workload| (workload, i)))
            .collect();
        workloads.sort_by_key(|(workload, mesh)| {
            (*mesh, workload.name.as_ref().map(|name| (&name.value, name.span)))
        });
        Self { meshes, named_meshes, sets, groups, workloads }
    }

    /// All names that are declared, and what is wrong with them.
    pub(super) fn names(&self, files: &'a [ast::File]) -> (Names<'a>, Vec<Diagnostic>) {
        let mesh_names =
            self.meshes.iter().filter_map(|mesh| mesh.name).map(|name| (name.value.as_str(), name.span));
        let sets = (self.sets.iter().enumerate()).map(|(i, &(set, mesh))| Declaration {
            name: &set.name,
            target: Target::Set(i),
            mesh,
        });
        let groups = (self.groups.iter().enumerate()).map(|(i, &(group, mesh))| Declaration {
            name: &group.name,
            target: Target::Group(i),
            mesh: Some(mesh),
        });
        let workloads = self.workloads.iter().enumerate().filter_map(|(i, (workload, mesh))| {
            let name = workload.name.as_ref()?;
            Some(Declaration { name, target: Target::Workload(i), mesh: Some(*mesh) })
        });
        let declarations = sets.chain(groups).chain(workloads).collect();
        Names::new(files, mesh_names.collect(), self.meshes.len(), declarations)
    }

    /// The id of a mesh; none where its name could not be read.
    pub(super) fn mesh_id(&self, mesh: usize) -> Option<MeshId> {
        (mesh < self.named_meshes).then(|| MeshId(id(mesh)))
    }
}

/// Every block of these meshes, with the index of its mesh.
pub(super) fn blocks<'m, 'a: 'm>(
    meshes: &'m [Mesh<'a>],
) -> impl Iterator<Item = (usize, &'a ast::Mesh)> + 'm {
    meshes.iter().enumerate().flat_map(|(i, mesh)| mesh.blocks.iter().map(move |block| (i, *block)))
}

/// Sources are shorter than 4 GiB, and each declaration takes some of it.
pub(super) fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
