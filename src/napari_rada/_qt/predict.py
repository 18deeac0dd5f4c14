"""The dock `Predict`: a trained run, an image, new layers on top of it, and what to correct next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QPushButton

from napari_rada._napari.edits import accept_plane
from napari_rada._napari.engine import (
    explaining,
    exporting_nnunet,
    load_pipeline,
    predicting,
    reporting,
    suggesting,
)
from napari_rada._napari.job import Job, RunState
from napari_rada._napari.layers import (
    annotated_slices,
    check_aligned,
    explanation_to_layer_data,
    grid_of,
    open_images,
    prediction_to_layer_data,
    selected_images,
    suffix_beside,
    take_snapshot,
)
from napari_rada._napari.pairing import brush_layer, brushed_image, check_owner, image_of, may_label, scans_of
from napari_rada._napari.planes import check_untilted, describe, go_to, viewed_axis, viewed_slice
from napari_rada._napari.preferences import preferences
from napari_rada._napari.preview import add_layers
from napari_rada._napari.recipes import PredictionChoice, Scan, predict_command
from napari_rada._napari.run_files import classes_of_run, labels_of_run
from napari_rada._napari.volumes import predicting_volume, result_to_layer_data, volume_of_layer
from napari_rada._qt import shortcuts
from napari_rada._qt.chunk_panel import ChunkPanel
from napari_rada._qt.clean_up_panel import CleanUpPanel
from napari_rada._qt.device_combo import DeviceCombo
from napari_rada._qt.dock import Dock, fill_devices, form
from napari_rada._qt.explain_panel import ExplainPanel
from napari_rada._qt.job_row import JobRow
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.menu_button import MenuButton
from napari_rada._qt.message import CLASSES_TOLD
from napari_rada._qt.output_choice import OutputChoice
from napari_rada._qt.run_combo import RunCombo
from napari_rada._qt.save_dialog import MaskSaver, ask_for_file
from napari_rada._qt.section import Section
from napari_rada._qt.worker import JobPump, spawn
from napari_rada.errors import InputError, RunFolderError
from napari_rada.events import Notice
from napari_rada.io import file_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_rada._napari.engine import LoadEngine
    from napari_rada._napari.job import Work
    from napari_rada._napari.recipes import Write
    from napari_rada._qt.theme import Colours
    from napari_rada.data.case import NonFinite
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Event
    from napari_rada.inference.suggest import Suggestion
    from napari_rada.outofcore import VolumeResult
    from napari_rada.prediction import Explanation, Prediction


class PredictWidget(Dock):
    """Predict images with a trained run, into new layers that lie exactly on them.

    `predict`, `cancel`, `explain`, `suggest`, `accept` and `save_mask` do what the buttons do; `prediction` is the
    latest result and `mask_layer` its layer.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_engine: LoadEngine = load_pipeline) -> None:
        super().__init__(napari_viewer)
        self._load_engine = load_engine
        self.prediction: Prediction | None = None
        self.mask_layer: Labels | None = None
        self._images: list[Image] = []
        self._image: Image | None = None
        self._explained: Image | None = None
        self._notices: dict[Job, list[str]] = {}
        self.job = Job("prediction", spawn)
        self._pump = JobPump(self.job, self)
        self.suggestion_job = Job("suggestion", spawn)
        self._suggestion_pump = JobPump(self.suggestion_job, self)
        self.explain_job = Job("map of where the networks look", spawn)
        self._explain_pump = JobPump(self.explain_job, self)
        self.handover_job = Job("report", spawn)
        self._handover_pump = JobPump(self.handover_job, self)
        self.saver = MaskSaver(self)
        self.run = RunCombo(self.session)
        self.image = LayerCombo(napari_viewer, Image, empty="no image open", first=brushed_image(napari_viewer))
        self.labels = LayerCombo(napari_viewer, Labels, empty="as in the run", optional=True)
        self.several = QCheckBox("All selected image layers")
        self.outputs = OutputChoice()
        self.chunks = ChunkPanel()
        self.device = DeviceCombo(preferences().device)
        self.clean_up = CleanUpPanel()
        self.explain_panel = ExplainPanel(self.explain_job)
        self.row = JobRow(self.job, "Predict", "Segment the image, into new layers on top of it")
        self._build()
        self._connect()
        self.apply_colours(self.colours)
        self._on_state_changed(self.job.state)
        fill_devices(self.device)

    def predict(self) -> None:
        """Predict the chosen image, or all that are selected, in a worker; the results come as new layers.

        If `chunks` says so the image is predicted chunk by chunk into a folder, and shown from there.
        """
        with self.telling_errors():
            run_dir, images = self._checked_input()
            labels, folder = self.labels.value(), self.chunks.value()
            if folder is not None:
                self._check_chunked(images)
                volume = volume_of_layer(images[0])
                device = self.device.value()
                self._start(self.job, predicting_volume(run_dir, volume, folder, device, self._non_finite()))
                self._images = images
                return
            others = [take_snapshot(*scan) for scan in scans_of(self.viewer, images[1:], besides=labels)]
            snapshots = [take_snapshot(images[0], labels, annotated_slices(labels) if labels else None), *others]
            device, tidy = self.device.value(), self.clean_up.value()
            self._start(self.job, predicting(self._load_engine, run_dir, snapshots, device, tidy, self._non_finite()))
            self._images = images

    def cancel(self) -> None:
        """Stop the prediction after the present tile."""
        self.job.stop()

    def explain(self) -> None:
        """Show in a new layer where the networks of the run look for the chosen class in the chosen image."""
        with self.telling_errors():
            run_dir, image, labels = self._checked_run(), self.image.value(), self.labels.value()
            self.explain_panel.set_data(classes_of_run(run_dir))
            value = self.explain_panel.value()
            if image is None:
                raise InputError("There is no Image layer; open a scan first.")
            if value is None:
                raise InputError(f"{run_dir} has no class beside background, so there is nothing to look for.")
            self._check_labels(image, labels)
            snapshot = take_snapshot(image, labels, annotated_slices(labels) if labels else None)
            device = self.device.value()
            self._start(
                self.explain_job, explaining(self._load_engine, run_dir, snapshot, value, device, self._non_finite())
            )
            self._explained = image
            self.explain_section.setValue(True)

    def suggest(self) -> None:
        """Find the slice whose annotation should help most next, and show it."""
        with self.telling_errors():
            if self.prediction is None:
                raise InputError("There is no prediction yet; predict first.")
            self.suggestion_job.start(suggesting(self._load_engine, self.prediction, self._known_slices()))

    def accept(self) -> None:
        """Write the predicted slice that is shown into the annotation, to be corrected; Ctrl+Z takes it back."""
        with self.telling_errors():
            image, labels, plane = self._checked_target()
            assert self.prediction is not None
            changed = accept_plane(labels, self.prediction.mask, plane)
            where = describe(grid_of(image), plane)
            self.viewer.layers.selection.active = labels
            if changed:
                told = f"Wrote {where} into '{labels.name}'. Correct it, mark it as annotated, then continue training."
            else:
                told = f"'{labels.name}' shows the prediction in {where} already."
            self.message.tellOf([labels], told)

    def save_mask(self, path: Path | str) -> None:
        """Save the latest mask, in the geometry of its image's file, in a worker."""
        with self.telling_errors():
            if self.mask_layer is None or self.mask_layer not in self.viewer.layers:
                raise InputError("There is no mask in the layer list; predict first.")
            self.saver.save(self.mask_layer, Path(path))
            self.message.setValue("Saving…")

    def report(self) -> None:
        """Write the report of the chosen run in a worker, and open it in the browser."""
        with self.telling_errors():
            self.handover_job.start(reporting(self._checked_run(), self.device.value()))
            self.message.setValue("Writing the report…")

    def export_nnunet(self, folder: Path | str) -> None:
        """Write the annotated cases of the chosen run as a raw dataset of nnU-Net v2, in a worker."""
        with self.telling_errors():
            self.handover_job.start(exporting_nnunet(self._checked_run(), Path(folder)))
            self.message.setValue("Writing the dataset…")

    def as_command(self) -> str:
        """Return the command that does what Predict would do now; raises `RadaError` if that cannot be done."""
        return self._command()()

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme."""
        super().apply_colours(colours)
        self.row.setColours(colours)

    def _command(self) -> Write:
        run_dir, images = self._checked_input()
        labels, folder = self.labels.value(), self.chunks.value()
        if folder is not None:
            self._check_chunked(images)
        chosen = Scan(images[0], labels, annotated_slices(labels) if labels else ())
        scans = [chosen, *(scans_of(self.viewer, images[1:], besides=labels) if images[1:] else [])]
        choice = PredictionChoice(
            self.device.value(), self.clean_up.value(), self.outputs.value(), self._non_finite(), folder
        )
        return predict_command(scans, run_dir, choice)

    def _checked_run(self) -> Path:
        run_dir = self.run.value()
        if run_dir is None:
            raise InputError("There is no run yet; train first, or open a run folder.")
        return run_dir

    def _checked_input(self) -> tuple[Path, list[Image]]:
        run_dir, images = self.run.value(), self._chosen_images()
        if run_dir is None:
            raise InputError("There is no run to predict with; train first, or open a run folder.")
        if not images:
            raise InputError("There is no Image layer; open a scan first.")
        if not self.outputs.value():
            raise InputError("Nothing is asked for; tick at least one of mask, probability and disagreement.")
        self._check_labels(images[0], self.labels.value())
        return run_dir, images

    def _check_chunked(self, images: Sequence[Image]) -> None:
        """Refuse what only a prediction in memory can do."""
        if len(images) > 1:
            raise InputError("Images are predicted chunk by chunk one at a time; take off 'All selected image layers'.")
        if self.labels.value() is not None:
            raise InputError("Annotated slices are not used chunk by chunk; leave Labels as in the run.")
        if self.clean_up.value():
            raise InputError("The clean-up needs the whole mask in memory; switch it off to predict chunk by chunk.")

    def _check_labels(self, image: Image, labels: Labels | None) -> None:
        if labels is None:
            return
        check_aligned(image, labels)
        check_owner(labels, image, open_images(self.viewer))
        if not annotated_slices(labels):
            raise InputError(f"No slice of '{labels.name}' is marked as annotated; mark one or choose another layer.")

    def _chosen_images(self) -> list[Image]:
        """Return the chosen image first, then, if wanted, the other selected ones."""
        chosen = self.image.value()
        others = selected_images(self.viewer) if self.several.isChecked() else []
        return [layer for layer in (chosen, *(o for o in others if o is not chosen)) if layer is not None]

    def _checked_target(self) -> tuple[Image, Labels, AnnotatedSlice]:
        if self.prediction is None or self._image is None:
            raise InputError("There is no prediction yet; predict first.")
        plane = viewed_slice(self.viewer, self._image)
        if plane is None:
            check_untilted(self._image, viewed_axis(self.viewer, self._image))
            raise InputError("The viewer shows no slice of the predicted image; turn to a plane first.")
        labels = self._annotation_of(self._image)
        if labels is None:
            raise InputError(
                f"No Labels layer belongs to '{self._image.name}'; press New labels in the dock Label slices first."
            )
        check_aligned(self._image, labels)
        check_owner(labels, self._image, open_images(self.viewer))
        return self._image, labels, plane

    def _annotation_of(self, image: Image) -> Labels | None:
        """Return the labels that are chosen, else those that are painted in, that the run learned from, or that fit."""
        assert self.prediction is not None
        if (chosen := self.labels.value()) is not None:
            return chosen
        brush = brush_layer(self.viewer)
        if brush is not None and may_label(brush, image, open_images(self.viewer)):
            return brush
        run_dir = Path(str(self.prediction.provenance.get("run", "")))
        return labels_of_run(self.viewer, image, run_dir) or self.session.labels_on(self.viewer, image)

    def _non_finite(self) -> NonFinite:
        """Return what the dock Train says about NaN and infinity."""
        config = self.session.config
        return "refuse" if config is None else config.data.non_finite

    def _known_slices(self) -> list[AnnotatedSlice]:
        """Slices annotated on the predicted image in any Labels layer of its: they need not be suggested again."""
        assert self.prediction is not None
        shape, images = self.prediction.mask.shape, open_images(self.viewer)
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Labels) and layer.data.shape == shape]
        layers = [layer for layer in layers if image_of(layer, images) in (self._image, None)]
        return sorted({plane for layer in layers for plane in annotated_slices(layer)})

    def _build(self) -> None:
        self.several.setToolTip("Predict every image layer that is selected in the layer list, not only the one above")
        self.suggest_button = QPushButton("Suggest next slice")
        tip = "Show the slice around which the mask is most in doubt"
        self.suggest_button.setToolTip(shortcuts.with_key(tip, shortcuts.SUGGEST))
        self.accept_button = QPushButton("Accept into annotation")
        tip = "Write the predicted slice that is shown into the labels, to be corrected by hand; Ctrl+Z takes it back"
        self.accept_button.setToolTip(shortcuts.with_key(tip, shortcuts.ACCEPT))
        self.save_button = QPushButton("Save mask…")
        self.save_button.setToolTip("Save the mask as NIfTI or TIFF in the geometry of the image's file")
        self.more_button = MenuButton(
            "More",
            "A report of the run, its annotation for other programs, the prediction as a command",
            {
                "Report of the run": self.report,
                "Export the run for nnU-Net…": self._on_export_clicked,
                "Copy as command": self._on_copy_clicked,
            },
        )
        self.column.addLayout(form(Run=self.run, Image=self.image))
        self.column.addWidget(self.several)
        self.column.addLayout(form(Labels=self.labels, Outputs=self.outputs, Device=self.device))
        self.column.addWidget(self.chunks)
        self.labels.setToolTip("Annotated slices that the networks complete; by default those of the run")
        tidy = Section("Clean-up", self.clean_up, tip="Tidy the mask; nothing is changed unless asked for")
        self.explain_section = Section(
            "Where the networks look", self.explain_panel, tip="What the networks, and their guidance, go by"
        )
        for widget in (tidy, self.row, self.explain_section, self.message):
            self.column.addWidget(widget)
        for buttons in ((self.suggest_button, self.accept_button), (self.save_button, self.more_button)):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            self.column.addLayout(row)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.row.startRequested.connect(self.predict)
        self.row.cancelRequested.connect(self.cancel)
        self.explain_panel.row.startRequested.connect(self.explain)
        self.explain_panel.row.cancelRequested.connect(self.explain_job.stop)
        self.explain_job.event.connect(partial(self._on_event, self.explain_job))
        self.explain_job.succeeded.connect(self._on_explained)
        self.explain_job.failed.connect(self.show_error)
        self.image.valueChanged.connect(self._on_image_changed)
        self.chunks.toggled.connect(lambda on: self.outputs.setEnabled(not on))
        self.run.valueChanged.connect(self._on_run_changed)
        self._on_run_changed(self.run.value())
        self.suggest_button.clicked.connect(lambda: self.suggest())
        self.accept_button.clicked.connect(lambda: self.accept())
        self.save_button.clicked.connect(lambda: self._on_save_clicked())
        self.handover_job.succeeded.connect(self._on_handed_over)
        self.handover_job.failed.connect(self.show_error)
        self.saver.saved.connect(self.message.setValue)
        self.saver.failed.connect(self.show_error)
        self.saver.job.state_changed.connect(self._draw_buttons)
        self.run.refused.connect(self.show_error)
        self.job.state_changed.connect(self._on_state_changed)
        self.job.event.connect(partial(self._on_event, self.job))
        self.job.succeeded.connect(self._on_predicted)
        self.job.failed.connect(self.show_error)
        self.suggestion_job.succeeded.connect(self._on_suggested)
        self.suggestion_job.failed.connect(self.show_error)
        self.follow(self.viewer.layers.events.removed, self._draw_buttons)
        for part in (self.run, self.image, self.labels):
            self.on_shut(part.shut)
        for job in (self.job, self.explain_job, self.suggestion_job, self.handover_job):
            self.on_shut(job.stop)
        self.on_shut(shortcuts.bind_keys(self.viewer, {shortcuts.SUGGEST: self.suggest, shortcuts.ACCEPT: self.accept}))

    def _on_state_changed(self, state: RunState) -> None:
        running = state is not RunState.IDLE
        fields = (self.run, self.image, self.labels, self.several, self.device, self.clean_up, self.chunks)
        for widget in fields:
            widget.setEnabled(not running)
        self.outputs.setEnabled(not running and self.chunks.value() is None)
        self._draw_buttons()

    def _draw_buttons(self, _event: object = None) -> None:
        ready = not self.job.is_running and self.prediction is not None
        for button in (self.suggest_button, self.accept_button):
            button.setEnabled(ready)
        self.save_button.setEnabled(ready and not self.saver.job.is_running and self.mask_layer in self.viewer.layers)

    def _start(self, job: Job, work: Work) -> None:
        self._notices[job] = []
        job.start(work)

    def _on_event(self, job: Job, event: Event) -> None:
        if isinstance(event, Notice):
            self._notices[job].append(event.message)
            self.message.setValue(event.message, "warning")

    def _tell_done(self, job: Job, layers: Sequence[Layer], told: str) -> None:
        """Tell what was added, and everything that the job had to say on the way, each sentence once."""
        notices = dict.fromkeys(self._notices[job])
        self.message.tellOf(layers, " ".join([told, *notices]), "warning" if notices else "info")

    def _on_predicted(self, predictions: list[Prediction | None] | VolumeResult) -> None:
        """Show what was predicted; the first of it is what is suggested from, accepted and saved."""
        if not isinstance(predictions, list):
            self._show_volume(predictions)
            return
        images, self._images = self._images, []
        done = [(image, found) for image, found in zip(images, predictions, strict=True) if found is not None]
        told: list[str] = []
        shown: list[Layer] = []
        with self.telling_errors():
            for image, prediction in done:
                added = add_layers(self.viewer, prediction_to_layer_data(prediction, image, self.outputs.value()))
                names = " and ".join(f"'{layer.name}'" for layer in added)
                shown += added
                told.append(f"Added {names} ({prediction.sizes(CLASSES_TOLD)}).")
                if prediction is done[0][1]:
                    self.prediction, self._image = prediction, image
                    self.mask_layer = next((layer for layer in added if isinstance(layer, Labels)), None)
            self._tell_done(self.job, shown, " ".join(told))
        self._draw_buttons()

    def _show_volume(self, result: VolumeResult) -> None:
        """Show what was predicted chunk by chunk, from its folder."""
        (image,), self._images = self._images, []
        self.prediction, self._image, self.mask_layer = None, None, None
        with self.telling_errors():
            (layer,) = add_layers(self.viewer, [result_to_layer_data(result, image)])
            self._tell_done(self.job, [layer], f"Added '{layer.name}', which is read from {result.out}.")
        self._draw_buttons()

    def _on_image_changed(self, image: Image | None) -> None:
        """Turn to the image, and from labels of another one back to those of the run."""
        self.forget_error()
        self.chunks.set_data(image, self.run.value())
        labels = self.labels.value()
        if image is not None and labels is not None and not may_label(labels, image, open_images(self.viewer)):
            self.labels.setValue(None)

    def _on_run_changed(self, run_dir: Path | None) -> None:
        self.forget_error()
        self.chunks.set_data(self.image.value(), run_dir)
        try:
            self.explain_panel.set_data(() if run_dir is None else classes_of_run(run_dir))
        except RunFolderError:
            self.explain_panel.set_data(())  # `explain` and `predict` tell what is wrong with the folder

    def _on_explained(self, explanation: Explanation) -> None:
        image, self._explained = self._explained, None
        assert image is not None
        with self.telling_errors():
            (layer,) = add_layers(self.viewer, [explanation_to_layer_data(explanation, image)])
            guidance = explanation.provenance.get("guidance", "none")
            self._tell_done(self.explain_job, [layer], f"Added '{layer.name}' (guidance: {guidance}).")

    def _on_suggested(self, suggestion: Suggestion) -> None:
        self.after_stroke(lambda: self._turn_to(suggestion))

    def _turn_to(self, suggestion: Suggestion) -> None:
        if self._image is None or self._image not in self.viewer.layers:
            self.show_error("The predicted image is no longer open; predict again.")
            return
        with self.telling_errors():
            go_to(self.viewer, self._image, suggestion.plane)
            where = describe(grid_of(self._image), suggestion.plane)
            self.message.setValue(f"Annotate {where} next: {suggestion.score:.0%} of the doubt lies around it.")

    def _on_handed_over(self, path: Path) -> None:
        self.message.setValue(f"Wrote {path}.")
        if path.suffix == ".html":
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))

    def _on_export_clicked(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the dataset, called DatasetNNN_Name")
        if chosen:
            self.export_nnunet(chosen)

    def _on_copy_clicked(self) -> None:
        with self.telling_errors():
            self.copier.copy(self._command(), "Copied the prediction as a command.")

    def _on_save_clicked(self) -> None:
        name = "mask" if self.mask_layer is None else file_name(str(self.mask_layer.name))
        suffix = ".nii.gz" if self.mask_layer is None else suffix_beside(self.mask_layer)
        with self.telling_errors(keep_message=True):
            chosen = ask_for_file(self, name, suffix)
            if chosen is not None:
                self.save_mask(chosen)
