//! Where statements and blocks go in the tree.

use mesh_grammar::scan::Extent;

use super::build::Statement as Built;
use super::message::{Statement, unreadable};
use super::walker::{Block, Walker};
use crate::ast::{self, Body};
use crate::source::Span;

impl Walker<'_, '_> {
    /// Puts a statement into the block where it stands.
    pub(super) fn place(&mut self, built: Option<Built>, span: Span) {
        let Some(built) = built else { return };
        let place = self.stack.last_mut().map(|open| &mut open.block);
        let left = match place {
            None => put_in_file(&mut self.out, built),
            Some(Block::Mesh(mesh)) => put_in_mesh(mesh, built),
            Some(Block::Workload(workload)) => match built {
                Built::Selector(selector) => {
                    workload.selectors.push(selector);
                    None
                }
                other => put_in_body(&mut workload.body, other),
            },
            Some(Block::For(block)) => put_in_body(&mut block.body, built),
            Some(Block::Test(test)) => match built {
                Built::Expect(line) => {
                    test.lines.push(line);
                    None
                }
                other => Some(other),
            },
            Some(Block::Skipped) => None,
        };
        if left.is_some() {
            self.errors
                .push(|| unreadable(Statement { file: self.file, text: self.text, extent: extent_of(span) }));
        }
    }

    /// Takes the innermost block off the stack and puts it where it belongs.
    pub(super) fn pop(&mut self, end: Span) {
        let Some(open) = self.stack.pop() else { return };
        self.allows.end(&open.allows, open.head.to(end));
        let mesh = self.stack.iter_mut().rev().find_map(|open| match &mut open.block {
            Block::Mesh(mesh) => Some(mesh),
            _ => None,
        });
        match (open.block, mesh) {
            (Block::Mesh(mesh), _) => self.out.meshes.push(*mesh),
            (Block::Workload(workload), Some(mesh)) => mesh.workloads.push(workload),
            (Block::For(block), Some(mesh)) => mesh.fors.push(block),
            (Block::Test(test), Some(mesh)) => mesh.tests.push(test),
            // Misplaced, which has been said: only its name is of use.
            (Block::Workload(workload), None) => self.out.broken.extend(workload.name),
            (Block::For(_) | Block::Test(_), None) | (Block::Skipped, _) => {}
        }
    }
}

fn put_in_file(file: &mut ast::File, built: Built) -> Option<Built> {
    match built {
        Built::Import(import) => file.imports.push(import),
        Built::Set(set) => file.sets.push(set),
        other => return put_in_body(&mut file.body, other),
    }
    None
}

fn put_in_mesh(mesh: &mut ast::Mesh, built: Built) -> Option<Built> {
    match built {
        Built::Set(set) => mesh.sets.push(set),
        Built::Group(group) => mesh.groups.push(group),
        Built::Accelerate(accelerate) => mesh.accelerations.push(accelerate),
        other => return put_in_body(&mut mesh.body, other),
    }
    None
}

/// Gives back what may not stand in every scope.
fn put_in_body(body: &mut Body, built: Built) -> Option<Built> {
    match built {
        Built::Rule(rule) => body.rules.push(rule),
        Built::Exempt(exempt) => body.exempts.push(exempt),
        Built::On(on) => body.ons.push(on),
        other => return Some(other),
    }
    None
}

fn extent_of(span: Span) -> Extent {
    Extent { start: span.start, end: span.end }
}
