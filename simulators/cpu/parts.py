"""How the parts of compiled kernels become one piece of code: each is optimised once, alone.

numba links whole functions into their callers, with all that these call, and optimises everything
anew at every level. Here a caller sees the code of what it calls itself, which LLVM may put into it
and then drops. What is left of every part is linked to the kernel at the end, as it is.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding
from numba import types, version_info
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

KNOWN = version_info.short <= (0, 68)
"""Whether the inside of this numba is known; a newer one compiles kernels in its own way."""
LARGE = 500
"""Lines of LLVM's code of a part that is never put into its callers."""


def _defined(module: Any, linkage: str) -> Any:
    """A copy of a module whose functions for others to call have that linkage."""
    copy = module.clone()
    for function in copy.functions:
        if not function.is_declaration and function.linkage == binding.Linkage.external:
            function.linkage = linkage
    return copy


class _Library(JITCodeLibrary):
    """The code of a function; parts that it calls are optimised already."""

    def _optimise(self) -> None:
        """Optimise this function, with what it calls itself at hand."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            # numba 0.61 has none
            if hasattr(self, "_reload_init"):
                self._reload_init.update(library._reload_init)
            part = isinstance(library, Part)
            code = library.seen_by_callers if part else library._get_module_for_linking()
            if code is not None:
                self._final_module.link_in(code, preserve=True)
        self._optimize_final_module()

    def _parts(self) -> list[Part]:
        """The parts that are called, directly or not, callers before what they call."""
        found: dict[Part, None] = {}

        def visit(library: _Library) -> None:
            for called in library._linking_libraries:
                if isinstance(called, Part) and called not in found:
                    visit(called)
                    found[called] = None

        visit(self)
        return [*found][::-1]


class Part(_Library):
    """The code of a function that only compiled code calls: optimised, but no machine code."""

    seen_by_callers: Any = None

    def finalize(self) -> None:
        """Optimise the code, and keep it for the kernels that it becomes a part of."""
        self._optimise()
        self._finalize_dynamic_globals()
        if str(self._final_module).count("\n") <= LARGE:
            self.seen_by_callers = _defined(self._final_module, "available_externally")
        self._shared_module = _defined(self._final_module, "linkonce_odr")
        self._finalized = True


class Whole(_Library):
    """The code of a kernel, with all its parts."""

    def finalize(self) -> None:
        """Optimise the kernel, add its parts, and make machine code of it."""
        self._optimise()
        for part in self._parts():
            self._final_module.link_in(part._shared_module, preserve=True)
        self._final_module.verify()
        self._finalize_final_module()


class PartCompiler(Compiler):
    """numba's compiler up to the code of LLVM, without the wrappers by which Python calls it."""

    def _compile_core(self) -> Any:
        state = self.state
        flags, name = state.flags, state.func_id.func_qualname
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        state.library = Part(state.targetctx.codegen(), name)
        result = super()._compile_core()
        made = [result.signature, *self._calls()]
        if not flags.nrt and any(_holds_arrays(one.return_type) for one in made):
            raise TypeError(
                f"{name} returns arrays, or calls a function that does: declare it as `allocating`."
            )

        def entry(*args: Any) -> None:
            raise TypeError(f"{name} is a part of compiled kernels, which Python cannot call.")

        state.targetctx.insert_user_function(entry, result.fndesc, [result.library])
        return result._replace(entry_point=entry)

    def _calls(self) -> list[Any]:
        """The signatures of the functions of ours that are called."""
        typemap, calltypes = self.state.typemap, self.state.calltypes
        return [
            signature
            for expression, signature in calltypes.items()
            if getattr(expression, "op", "") == "call"
            and isinstance(typemap[expression.func.name], types.Dispatcher)
        ]


class KernelCompiler(Compiler):
    """numba's compiler, for a function that is made of parts."""

    def _compile_core(self) -> Any:
        state = self.state
        state.library = Whole(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super()._compile_core()


def _holds_arrays(kind: Any) -> bool:
    return isinstance(kind, types.Array) or any(map(_holds_arrays, getattr(kind, "types", ())))
