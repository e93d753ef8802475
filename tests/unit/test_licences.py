"""What this program says of its parts."""

from appliance.core.licences import components_of, installed_components


def test_what_the_node_needs_is_named_with_its_licence() -> None:
    components = {component.name.lower(): component for component in installed_components()}
    assert {"ingle", "aiohttp", "numpy", "onnxruntime", "grpcio"} <= components.keys()
    assert [name for name, component in components.items() if component.licence == "unknown"] == []
    assert "numpy" in components["numpy"].texts[0].lower()


def test_what_only_tests_need_is_not_named() -> None:
    assert {"pytest", "hypothesis", "ruff"}.isdisjoint(component.name.lower() for component in installed_components())


def test_a_package_that_is_not_installed_is_left_out() -> None:
    assert [component.name for component in components_of(["numpy", "no-such-package"])] == ["numpy"]
