"""The drop-in modules have the public names of the published package, version 0.2."""

import importlib

import pytest

NAMES = {
    "autoregressive": """
        Predictor
    """,
    "casting": """
        Bfloat16Cast PyTree bfloat16_variable_view infer_floating_dtype tree_map_cast
    """,
    "checkpoint": """
        dump load
    """,
    "data_utils": """
        AVG_SEC_PER_YEAR DAY_PROGRESS SEC_PER_DAY TISR TargetLeadTimes TimedeltaLike
        TimedeltaStr YEAR_PROGRESS add_derived_vars add_tisr_var
        extract_input_target_times extract_inputs_targets_forcings featurize_progress
        get_day_progress get_seconds_since_epoch get_year_progress
    """,
    "deep_typed_graph_net": """
        DeepTypedGraphNet GraphToGraphNetwork
    """,
    "graphcast": """
        ALL_ATMOSPHERIC_VARS CheckPoint EXTERNAL_FORCING_VARS FORCING_VARS
        GENERATED_FORCING_VARS GNN GraphCast Kwargs ModelConfig PRESSURE_LEVELS
        PRESSURE_LEVELS_ERA5_37 PRESSURE_LEVELS_HRES_25 PRESSURE_LEVELS_WEATHERBENCH_13
        STATIC_VARS TARGET_ATMOSPHERIC_NO_W_VARS TARGET_ATMOSPHERIC_VARS
        TARGET_SURFACE_NO_PRECIP_VARS TARGET_SURFACE_VARS TASK TASK_13
        TASK_13_PRECIP_OUT TaskConfig
    """,
    "grid_mesh_connectivity": """
        in_mesh_triangle_indices radius_query_indices
    """,
    "icosahedral_mesh": """
        TriangularMesh faces_to_edges get_hierarchy_of_triangular_meshes_for_sphere
        get_icosahedron get_last_triangular_mesh_for_sphere merge_meshes
    """,
    "losses": """
        LossAndDiagnostics LossFunction normalized_latitude_weights
        normalized_level_weights sum_per_variable_losses weighted_mse_per_level
    """,
    "mlp": """
        LinearNormConditioning
    """,
    "model_utils": """
        NumpyInterface TransformInterface cartesian_to_lat_lon cartesian_to_spherical
        dataset_to_stacked fourier_features get_bipartite_graph_spatial_features
        get_bipartite_relative_position_in_receiver_local_coordinates
        get_graph_spatial_features get_relative_position_in_receiver_local_coordinates
        get_rotation_matrices_to_local_coordinates lat_lon_deg_to_spherical
        lat_lon_to_cartesian lat_lon_to_leading_axes restore_leading_axes
        rotate_with_matrices spherical_to_cartesian spherical_to_lat_lon
        stacked_to_dataset variable_to_stacked
    """,
    "nan_cleaning": """
        NaNCleaner
    """,
    "normalization": """
        InputsAndResiduals normalize unnormalize
    """,
    "predictor_base": """
        LossAndDiagnostics Predictor
    """,
    "rollout": """
        PredictorFn chunked_prediction chunked_prediction_generator
        chunked_prediction_generator_multiple_runs extend_targets_template
    """,
    "solar_radiation": """
        TsiDataLoader era5_tsi_data get_toa_incident_solar_radiation
        get_toa_incident_solar_radiation_for_xarray get_tsi reference_tsi_data
    """,
    "typed_graph": """
        ArrayLike ArrayLikeTree Context EdgeSet EdgeSetKey EdgesIndices NodeSet
        TypedGraph
    """,
    "typed_graph_net": """
        EdgeFeatures GNUpdateGlobalFn GNUpdateNodeFn Globals GraphMapFeatures
        GraphNetwork InteractionNetwork InteractionUpdateNodeFn
        InteractionUpdateNodeFnNoSentEdges NodeFeatures ReceiverFeatures SenderFeatures
    """,
    "xarray_jax": """
        DataArray Dataset DatasetOrDataArray DimsChangeFn JaxArrayWrapper Variable
        apply_ufunc assign_coords assign_jax_coords dims_change_on_unflatten
        get_jax_coords jax_data jax_vars pmap scan tree_map_variables tree_map_with_dims
        unwrap unwrap_coords unwrap_data unwrap_vars vmap wrap
    """,
    "xarray_tree": """
        map_structure
    """,
}


@pytest.mark.parametrize("module", NAMES)
def test_a_published_module_has_all_its_public_names(module):
    ours = importlib.import_module(f"weatherlib.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(ours, name)] == []


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_listed_as_public(module):
    ours = importlib.import_module(f"weatherlib.{module}")
    assert set(NAMES[module].split()) <= set(ours.__all__)
