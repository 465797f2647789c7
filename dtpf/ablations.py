"""The ablations of Zhang et al., TCSVT 2025, tables III to VI: each row as settings for any recipe.

`--recipe student_4m_8x4090@table_iv/concat` is that recipe with the row's settings. Tables III and
IV change the teacher, V and VI the student. The rows of V and VI also stand in
`tune_spaces/table_v.yaml` and `table_vi.yaml`, which train and score a whole table by one command.
"""

from collections.abc import Mapping

# The paper's terms, and the weights (`TermWeights`) that belong to each. Consistency is a term of
# the released training alone; it goes with the intensity it watches over.
_TERMS: Mapping[str, tuple[str, ...]] = {
    "int": ("intensity", "consistency"),
    "color": ("color",),
    "grad": ("gradient",),
    "ssim": ("ssim", "ssim_infrared"),
}


def _with_terms(*kept: str) -> tuple[str, ...]:
    dropped = [weight for term in _TERMS if term not in kept for weight in _TERMS[term]]
    return tuple(f"loss.scale.{weight}=0.0" for weight in dropped)


def _distilled(base: float, feature: float, result: float) -> tuple[str, ...]:
    values = {"base": base, "feature": feature, "result": result}
    return tuple(f"student.distill.{name}={value}" for name, value in values.items())


ABLATIONS: Mapping[str, tuple[str, ...]] = {
    "text/off": ("teacher.model.text=false",),
    "table_iii/int": _with_terms("int"),
    "table_iii/int_color": _with_terms("int", "color"),
    "table_iii/int_grad_ssim": _with_terms("int", "grad", "ssim"),
    "table_iii/int_color_grad": _with_terms("int", "color", "grad"),
    "table_iii/color_grad_ssim": _with_terms("color", "grad", "ssim"),
    "table_iii/color_grad_ssim_int": _with_terms("color", "grad", "ssim", "int"),
    "table_iv/concat": ("teacher.model.fusion=concat",),
    "table_iv/unlearned": ("teacher.model.fusion=unlearned",),
    "table_iv/dynamic": ("teacher.model.fusion=dynamic",),
    "table_iv/multiscale": ("teacher.model.fusion=multiscale",),
    "table_iv/scfm": ("teacher.model.fusion=scfm",),
    # These settings meet the counts that the table prints, 39.1M, 15.8M and 4.10M, within 1%.
    "table_v/w48": (
        "student.model.width=48",
        "student.model.refinement=4",
        "student.model.ffn_expansion=2.5",
    ),
    "table_v/w32": ("student.model.width=32", "student.model.ffn_expansion=2.05"),
    "table_v/w16": ("student.model.width=16",),
    "table_vi/base": _distilled(1.0, 0.0, 0.0),
    "table_vi/base_result": _distilled(1.0, 0.0, 1.0),
    "table_vi/base_feature_result": _distilled(1.0, 0.1, 1.0),
}
