"""The values of OMERO's enumerations, as a fresh OMERO 5.6 database has them."""

VALUES = {
    "AcquisitionMode": (
        "WideField LaserScanningConfocalMicroscopy SpinningDiskConfocal SlitScanConfocal MultiPhotonMicroscopy "
        "StructuredIllumination SingleMoleculeImaging TotalInternalReflection FluorescenceLifetime SpectralImaging "
        "FluorescenceCorrelationSpectroscopy NearFieldScanningOpticalMicroscopy SecondHarmonicGenerationImaging PALM "
        "STORM STED TIRF FSM LCM Other BrightField SweptFieldConfocal SPIM Unknown"
    ),
    "AdminPrivilege": (
        "Chgrp Chown DeleteFile DeleteManagedRepo DeleteOwned DeleteScriptRepo ModifyGroup ModifyGroupMembership "
        "ModifyUser ReadSession Sudo WriteFile WriteManagedRepo WriteOwned WriteScriptRepo"
    ),
    "ArcType": "Hg Xe HgXe Other Unknown",
    "Binning": "1x1 2x2 4x4 8x8 Other",
    "ChecksumAlgorithm": "Adler-32 CRC-32 File-Size-64 MD5-128 Murmur3-32 Murmur3-128 SHA1-160",
    "ContrastMethod": (
        "Brightfield Phase DIC HoffmanModulation ObliqueIllumination PolarizedLight Darkfield Fluorescence Other "
        "Unknown"
    ),
    "Correction": (
        "UV PlanApo PlanFluor SuperFluor VioletCorrected Unknown Achro Achromat Fluor Fl Fluar Neofluar Fluotar Apo "
        "PlanNeofluar Other"
    ),
    "DetectorType": (
        "CCD IntensifiedCCD AnalogVideo PMT Photodiode Spectroscopy LifetimeImaging CorrelationSpectroscopy FTIR "
        "EM-CCD APD CMOS EBCCD Other Unknown"
    ),
    "DimensionOrder": "XYZCT XYZTC XYCTZ XYCZT XYTCZ XYTZC",
    "EventType": "Bootstrap Import Internal Shoola User Task Test Processing FullText Sessions PixelData",
    "ExperimentType": (
        "FP FRET TimeLapse 4-D+ Screen Immunocytochemistry FISH Electrophysiology IonImaging Colocalization "
        "PGI/Documentation FluorescenceLifetime SpectralImaging Photobleaching SPIM Other Unknown"
    ),
    "Family": "linear polynomial exponential logarithmic",
    "FilamentType": "Incandescent Halogen Other Unknown",
    "FilterType": "LongPass ShortPass BandPass MultiPass Dichroic NeutralDensity Tuneable Other Unknown",
    "Format": (
        "CellVoyager Deltavision Flex Gatan Imaris InCell JPEG JPEG2000 LIF LSM Leica MetaXpress Metamorph "
        "Micro-Manager MRC ND2 OIB OIF OME-TIFF OME-XML Operetta PNG PerkinElmer ScanR SlideBook TIFF Tiff VSI ZVI "
        "Zeiss OMERO-Pixels Companion/OME-XML"
    ),
    "Illumination": "Transmitted Epifluorescence Oblique NonLinear Other Unknown",
    "Immersion": "Oil Water WaterDipping Air Multi Glycerol Other Unknown",
    "JobStatus": "Submitted Resubmitted Queued Requeued Running Error Waiting Finished Cancelled",
    "LaserMedium": (
        "Cu Ag ArFl ArCl KrFl KrCl XeFl XeCl XeBr N Ar Kr Xe HeNe HeCd CO CO2 H2O HFl NdGlass NdYAG ErGlass ErYAG "
        "HoYLF HoYAG Ruby TiSapphire Alexandrite Rhodamine6G CoumarinC30 GaAs GaAlAs EMinus Other Unknown"
    ),
    "LaserType": "Excimer Gas MetalVapor SolidState Dye Semiconductor FreeElectron Other Unknown",
    "Medium": "Air Oil Water Glycerol Other Unknown",
    "MicrobeamManipulationType": (
        "FRAP Photoablation Photoactivation Uncaging OpticalTrapping FLIP InverseFRAP Other Unknown"
    ),
    "MicroscopeType": "Upright Inverted Dissection Electrophysiology Other Unknown",
    "PhotometricInterpretation": "RGB ARGB CMYK HSV Monochrome ColorMap",
    "PixelsType": "bit int8 int16 int32 uint8 uint16 uint32 float double complex double-complex",
    "ProjectionAxis": "z t",
    "ProjectionType": "maximum mean sum",
    "Pulse": "CW Single QSwitched Repetitive ModeLocked Other Unknown",
    "RenderingModel": "rgb greyscale",
}
BIT_SIZES = {
    "bit": 1,
    "int8": 8,
    "int16": 16,
    "int32": 32,
    "uint8": 8,
    "uint16": 16,
    "uint32": 32,
    "float": 32,
    "double": 64,
    "complex": 64,
    "double-complex": 128,
}
