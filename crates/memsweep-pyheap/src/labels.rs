//! The names under which a parent holds its children, where they are cheap to tell.
//!
//! Traversals report children without names, so a parent is asked for them after the walk: by its C
//! getters and its own structure, never by code of its class. That may raise audit events. An object
//! whose attributes lie in it gets its `__dict__` made, as `vars` would do.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use crate::frames;
use crate::layout::Layout;
use crate::object::{get, strong, type_of};
use crate::table::AddressMap;

/// The name under which a parent holds a child.
#[derive(Debug)]
pub enum Label<'py> {
    /// An attribute, a slot or a member of a built-in type.
    Attribute(String),
    /// The value for this key of a dictionary.
    Key(Bound<'py, PyAny>),
    /// An element of a list or tuple.
    Index(usize),
    /// A variable that a function takes from an enclosing one.
    Closure(String),
    /// A variable of a frame or a generator.
    Variable(String),
}

/// A container that belongs to its owner, whose names its content has.
enum Part {
    /// The `__dict__` of an object.
    Attributes,
    /// The cells of a function, with the names of their variables.
    Cells(Vec<String>),
}

/// Attributes read by their descriptors.
type Members<'py> = Rc<[(String, Bound<'py, PyAny>)]>;

/// For each child, the labels that it has.
pub(crate) type Names<'py> = AddressMap<VecDeque<Label<'py>>>;

/// Tells the labels of a parent's children.
pub(crate) struct Labels<'py> {
    layout: Layout,
    /// `type.__mro__` and `type.__dict__`: a metaclass may answer for its classes in Python.
    bases: Bound<'py, PyAny>,
    namespace: Bound<'py, PyAny>,
    member: usize,
    function: usize,
    frame: usize,
    /// Getters of functions and cells, whose references are no members.
    of_function: Members<'py>,
    of_cell: (usize, Members<'py>),
    /// Types of generators, and how each is asked for its frame.
    generators: [(usize, &'static str); 3],
    members: HashMap<usize, Members<'py>>,
    parts: AddressMap<Part>,
}

impl<'py> Labels<'py> {
    pub(crate) fn new(py: Python<'py>, layout: Layout) -> PyResult<Self> {
        let types = py.import("types")?;
        let class = |name: &str| -> PyResult<usize> { Ok(types.getattr(name)?.as_ptr() as usize) };
        let getters = |name: &str, getters: &[&str]| -> PyResult<Members<'py>> {
            let class = types.getattr(name)?;
            getters.iter().map(|name| Ok(((*name).to_owned(), class.getattr(*name)?))).collect()
        };
        let of_types = py.get_type::<PyType>().getattr("__dict__")?;
        Ok(Self {
            layout,
            bases: of_types.get_item("__mro__")?,
            namespace: of_types.get_item("__dict__")?,
            member: class("MemberDescriptorType")?,
            function: class("FunctionType")?,
            frame: class("FrameType")?,
            of_function: getters("FunctionType", &["__defaults__", "__kwdefaults__"])?,
            of_cell: (class("CellType")?, getters("CellType", &["cell_contents"])?),
            generators: [
                (class("GeneratorType")?, "gi_frame"),
                (class("CoroutineType")?, "cr_frame"),
                (class("AsyncGeneratorType")?, "ag_frame"),
            ],
            members: HashMap::new(),
            parts: AddressMap::default(),
        })
    }

    /// Notes which children are parts of a parent. To be called for all parents before any is asked for
    /// its labels.
    pub(crate) fn learn(&mut self, parent: &Bound<'py, PyAny>, children: &[usize]) -> PyResult<()> {
        if class_of(parent) == self.function {
            let cells = parent.getattr("__closure__")?;
            if !cells.is_none() {
                let names = parent.getattr("__code__")?.getattr("co_freevars")?.extract()?;
                self.parts.insert(cells.as_ptr() as usize, Part::Cells(names));
            }
        }
        let dictionary = parent.py().get_type::<PyDict>().as_ptr() as usize;
        // SAFETY: the caller holds the children.
        if children.iter().any(|&child| unsafe { type_of(child) } == dictionary)
            && let Some(attributes) = attributes(parent)
        {
            self.parts.insert(attributes.as_ptr() as usize, Part::Attributes);
        }
        Ok(())
    }

    /// The labels of the children that a parent's traversal reports.
    pub(crate) fn of(
        &mut self,
        parent: &Bound<'py, PyAny>,
        children: &[usize],
    ) -> PyResult<Names<'py>> {
        let mut names = Names::default();
        let mut name = |child: &Bound<'py, PyAny>, label| {
            names.entry(child.as_ptr() as usize).or_default().push_back(label);
        };
        let part = self.parts.get(&(parent.as_ptr() as usize));
        if let Ok(list) = parent.cast::<PyList>() {
            list.iter().enumerate().for_each(|(at, child)| name(&child, Label::Index(at)));
        } else if let Ok(tuple) = parent.cast::<PyTuple>() {
            for (at, child) in tuple.iter().enumerate() {
                let variable = match part {
                    Some(Part::Cells(variables)) => variables.get(at).cloned(),
                    _ => None,
                };
                name(&child, variable.map_or(Label::Index(at), Label::Closure));
            }
        } else if let Ok(dictionary) = parent.cast::<PyDict>() {
            for (key, child) in dictionary.iter() {
                let attribute = matches!(part, Some(Part::Attributes)).then(|| text(&key));
                name(&child, attribute.flatten().map_or(Label::Key(key), Label::Attribute));
            }
        }
        for (variable, child) in self.variables(parent)? {
            name(&child, Label::Variable(variable));
        }
        for (member, getter) in self.members(parent).iter() {
            if let Some(child) = get(getter, parent) {
                name(&child, Label::Attribute(member.clone()));
            }
        }
        // What is left may lie in the object itself.
        if children.iter().any(|child| !names.contains_key(child))
            && let Some(attributes) = attributes(parent)
        {
            let mut name = |child: &Bound<'py, PyAny>, label| {
                names.entry(child.as_ptr() as usize).or_default().push_back(label);
            };
            for (key, child) in attributes.iter() {
                if let Some(attribute) = text(&key) {
                    name(&child, Label::Attribute(attribute));
                }
            }
            name(&attributes, Label::Attribute("__dict__".to_owned()));
        }
        Ok(names)
    }

    /// The variables of a frame, or of a generator's, as they lie in it.
    fn variables(&self, parent: &Bound<'py, PyAny>) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
        let Some(layout) = &self.layout.frames else { return Ok(Vec::new()) };
        let class = class_of(parent);
        let frame = match self.generators.iter().find(|(generator, _)| *generator == class) {
            Some((_, frame)) => parent.getattr(*frame)?,
            None if class == self.frame => parent.clone(),
            None => return Ok(Vec::new()),
        };
        // One that has ended has no frame.
        if frame.is_none() {
            return Ok(Vec::new());
        }
        let places = frames::places(&frame, layout)?;
        Ok(places.into_iter().filter_map(|(name, value)| Some((text(&name)?, value))).collect())
    }

    /// What the parent's class names in C: its slots, the members of a built-in type.
    fn members(&mut self, parent: &Bound<'py, PyAny>) -> Members<'py> {
        let class = class_of(parent);
        if class == self.of_cell.0 {
            return self.of_cell.1.clone();
        }
        if let Some(known) = self.members.get(&class) {
            return known.clone();
        }
        // SAFETY: an object's type is alive.
        let type_object = unsafe { strong(parent.py(), class) };
        let mut found = Vec::new();
        if class == self.function {
            found.extend(self.of_function.iter().cloned());
        }
        let bases = get(&self.bases, &type_object).and_then(|bases| bases.cast_into().ok());
        for base in bases.iter().flat_map(|bases: &Bound<'py, PyTuple>| bases.iter()) {
            let Some(namespace) = get(&self.namespace, &base) else { continue };
            let Ok(items) = namespace.call_method0("items") else { continue };
            for item in items.try_iter().into_iter().flatten().flatten() {
                let Ok(item) = item.cast_into::<PyTuple>() else { continue };
                if let (Ok(name), Ok(value)) = (item.get_item(0), item.get_item(1))
                    && class_of(&value) == self.member
                    && let Some(name) = text(&name)
                {
                    found.push((name, value));
                }
            }
        }
        let found: Members<'py> = found.into();
        self.members.insert(class, found.clone());
        found
    }
}

fn class_of(object: &Bound<'_, PyAny>) -> usize {
    // SAFETY: a bound object is alive.
    unsafe { type_of(object.as_ptr() as usize) }
}

/// A name, if it is one.
fn text(name: &Bound<'_, PyAny>) -> Option<String> {
    Some(name.cast_exact::<PyString>().ok()?.to_string_lossy().into_owned())
}

/// The `__dict__` of an object whose class has not replaced that, made where it was not yet.
fn attributes<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is alive; the function returns a new reference, or null with an exception set.
    let found = unsafe {
        let found = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_opt(object.py(), found)
    };
    if found.is_none() {
        // An exception must not outlive the attempt.
        drop(PyErr::take(object.py()));
    }
    found?.cast_into().ok()
}
